//! Event time on streams.

use weir_dataflow::head::SourceHead;
use weir_dataflow::operator::Then;
use weir_dataflow::operators::{
    WatermarkAlignment, WatermarkGenerator, WatermarkOperator, WatermarkStrategy, WithWatermarks,
};
use weir_dataflow::source::Source;

use super::{DataStream, Upstream};

impl<C: Upstream> DataStream<C> {
    /// Makes watermarks of the records' times; those from before are dropped.
    #[allow(clippy::type_complexity, reason = "the chain is in the type by design")]
    pub fn watermarks<G: WatermarkGenerator<C::Out>>(
        self,
        strategy: WatermarkStrategy<G>,
    ) -> DataStream<Then<C, WatermarkOperator<C::Out, G>>> {
        self.transform("Watermarks", WatermarkOperator::new(strategy))
    }
}

impl<S: Source> DataStream<SourceHead<S>> {
    /// Makes watermarks inside the source, for each split that its reader tells apart: the split that is furthest behind says how far
    /// event time is. Readers that tell none apart count as one split.
    pub fn watermarks_per_split<G: WatermarkGenerator<S::Item>>(
        self,
        strategy: WatermarkStrategy<G>,
    ) -> DataStream<SourceHead<WithWatermarks<S, G>>> {
        self.source_watermarks(strategy, None)
    }

    /// [`watermarks_per_split`](Self::watermarks_per_split), and the source's tasks wait for others of the same group that are behind.
    /// Tasks in different worker processes do not wait for each other.
    pub fn watermarks_aligned<G: WatermarkGenerator<S::Item>>(
        self,
        strategy: WatermarkStrategy<G>,
        group: &WatermarkAlignment,
    ) -> DataStream<SourceHead<WithWatermarks<S, G>>> {
        self.source_watermarks(strategy, Some(group.clone()))
    }

    fn source_watermarks<G: WatermarkGenerator<S::Item>>(
        self,
        strategy: WatermarkStrategy<G>,
        group: Option<WatermarkAlignment>,
    ) -> DataStream<SourceHead<WithWatermarks<S, G>>> {
        let DataStream { draft, chain: SourceHead { source, node: at }, node, origin } = self;
        let chain = SourceHead { source: WithWatermarks::new(source, strategy, group), node: at };
        DataStream { draft, chain, node, origin }
    }
}
