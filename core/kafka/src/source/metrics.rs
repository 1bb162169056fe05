//! What a reader shows of itself, under the names Flink's reader has.

use weir::metrics::{Gauge, OperatorMetrics};

use super::partition::Partition;

/// The metrics of a reader.
#[derive(Debug)]
pub(super) struct ReaderMetrics {
    metrics: OperatorMetrics,
    lag_max: Gauge,
    pending: Gauge,
}

/// The metrics of a partition.
#[derive(Debug)]
pub(super) struct PartitionMetrics {
    current_offset: Gauge,
    lag: Gauge,
}

impl ReaderMetrics {
    pub(super) fn new(metrics: &OperatorMetrics) -> ReaderMetrics {
        let reader = metrics.group("KafkaSourceReader");
        ReaderMetrics {
            lag_max: reader.group("KafkaConsumer").gauge("records-lag-max"),
            pending: metrics.gauge("pendingRecords"),
            metrics: reader,
        }
    }

    pub(super) fn of_partition(&self, topic: &str, partition: i32) -> PartitionMetrics {
        let metrics = self.metrics.labelled("topic", topic).labelled("partition", partition);
        PartitionMetrics { current_offset: metrics.gauge("currentOffset"), lag: metrics.gauge("records-lag") }
    }

    /// Shows how far these partitions are.
    pub(super) fn show(&self, partitions: &[Partition]) {
        let (mut most, mut sum) = (0, 0);
        for partition in partitions {
            let lag = partition.lag();
            partition.metrics.show(partition);
            most = most.max(lag);
            sum += lag;
        }
        self.lag_max.set(most as f64);
        self.pending.set(sum as f64);
    }
}

impl PartitionMetrics {
    pub(super) fn show(&self, partition: &Partition) {
        self.current_offset.set(partition.current_offset() as f64);
        self.lag.set(partition.lag() as f64);
    }
}
