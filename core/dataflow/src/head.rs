//! Heads of chains: the loops that feed a fused chain from a source, one input or two inputs.

mod co_input;
mod input;
mod source;

use crate::channel::{Gate, GateEvent};
use crate::element::{Control, Element, EncodedBatch};
use crate::failure::TaskError;
use crate::gate::GateAction;
use crate::in_flight::damaged;
use crate::operator::{Flush, PREPARED, Pulse, Stage};
use crate::record::{Decoder, Record};
use crate::task::TaskShared;

pub use co_input::CoInput;
pub use input::Input;
pub use source::SourceHead;

/// Feeds the records of a batch to `push`, some at a time to `prepare` before, counts them and gives the batch back.
#[inline(always)]
fn feed<T: Record, S>(
    event: GateEvent<T>,
    gate: &mut Gate<T>,
    pulse: &mut Pulse,
    stage: &mut S,
    prepare: impl Fn(&mut S, &[T]),
    push: impl Fn(&mut S, T),
    flush: impl Fn(&mut S, Flush),
) -> Result<(), TaskError> {
    match event {
        GateEvent::Batch(channel, mut batch) => {
            let mut records = batch.drain(..);
            // In blocks, so that the loop over cheap records does nothing else.
            while records.len() > 0 {
                let block = pulse.until_look().min(records.len() as u64);
                prepare(stage, &records.as_slice()[..block as usize]);
                for record in records.by_ref().take(block as usize) {
                    push(stage, record);
                }
                pulse.task().metrics().add_records_in(block);
                pulse.on_records(block, |why| flush(stage, why));
                if pulse.task().is_urgent() && records.len() > 0 {
                    gate.put_back(Element::Batch(records.by_ref().collect()));
                }
            }
            drop(records);
            gate.recycle(channel, batch);
        }
        GateEvent::Encoded(batch) => {
            let mut decoder = Decoder::new(&batch.bytes);
            let (mut left, mut records) = (batch.records, Vec::with_capacity(PREPARED));
            while left > 0 {
                let block = pulse.until_look().min(u64::from(left));
                T::decode_batch(&mut decoder, block as usize, &mut records).map_err(damaged)?;
                prepare(stage, &records);
                records.drain(..).for_each(|record| push(stage, record));
                left -= block as u32;
                pulse.task().metrics().add_records_in(block);
                pulse.on_records(block, |why| flush(stage, why));
                if pulse.task().is_urgent() && left > 0 {
                    let rest = EncodedBatch { bytes: decoder.rest().to_vec(), records: left };
                    gate.put_back(Element::Encoded(rest));
                    break;
                }
            }
            pulse.task().metrics().add_bytes_in(decoder.offset() as u64);
        }
        GateEvent::Action(_) | GateEvent::Empty => {}
    }
    Ok(())
}

/// Passes a gate's decision down the chain.
fn pass_on<T>(action: GateAction, task: &TaskShared, down: &mut impl Stage<T>) {
    match action {
        GateAction::Watermark(time) => {
            let control = Control::Watermark(time);
            task.metrics().set_input_time(control);
            down.control(control);
        }
        GateAction::Idle(idle) => down.control(Control::Idle(idle)),
        // Barriers and ends are the loops' business, the others mean nothing downstream.
        GateAction::Aligned(_) | GateAction::End | GateAction::None | GateAction::Block | GateAction::BlockAnew => {}
    }
}
