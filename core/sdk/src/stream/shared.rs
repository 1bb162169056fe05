//! Streams with several consumers.

use weir_dataflow::exchange::FanOutEnd;
use weir_dataflow::head::Input;
use weir_dataflow::operator::Body;
use weir_dataflow::record::Record;

use super::upstream::InputOrigin;
use super::{DataStream, Upstream};
use crate::build::{Draft, NodeId};

/// A stream that can be read several times: every consumer gets every record, and the chain before it runs once.
#[derive(Clone)]
pub struct SharedStream<T> {
    draft: Draft,
    end: FanOutEnd<T>,
    node: NodeId,
}

impl<T> std::fmt::Debug for SharedStream<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SharedStream<{}> after node {}", std::any::type_name::<T>(), self.node)
    }
}

impl<T: Record + Clone> SharedStream<T> {
    pub(crate) fn new<C: Upstream<Out = T>>(stream: DataStream<C>) -> Self {
        let end = FanOutEnd::default();
        let DataStream { draft, chain, node, origin } = stream;
        let node = node.unwrap_or_else(|| {
            let node = draft.borrow_mut().add_node("Share", weir_model::OperatorKind::Transform, None);
            C::attach(&draft, origin, node, 0);
            node
        });
        draft.borrow_mut().finish_vertex(node, Body::erased(chain, end.clone()));
        SharedStream { draft, end, node }
    }

    /// One more reader of the stream.
    pub fn stream(&self) -> DataStream<Input<T>> {
        DataStream::from_origin(self.draft.clone(), InputOrigin::from_shared(self.end.clone(), self.node))
    }
}
