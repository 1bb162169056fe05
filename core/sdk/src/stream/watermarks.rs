//! Event time on streams.

use weir_dataflow::operator::Then;
use weir_dataflow::operators::{WatermarkGenerator, WatermarkOperator, WatermarkStrategy};

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
