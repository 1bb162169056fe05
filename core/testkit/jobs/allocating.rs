//! Jobs that want more memory than there is.

use std::time::Duration;

use weir::prelude::*;

/// Keeps everything it sees.
pub fn hoards(env: &Environment) -> weir::Result<()> {
    env.source(GeneratorSource::new(|n| n)).parallelism(1).process(Hoard::default()).name("hoard").discard();
    Ok(())
}

#[derive(Clone, Default)]
struct Hoard(Vec<Vec<u8>>);

impl ProcessFunction<u64> for Hoard {
    type Out = u64;

    fn process(&mut self, record: u64, _context: &mut ProcessContext<u64>) {
        self.0.push(vec![record as u8 | 1; 1 << 20]);
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// Asks for more than any machine has, at once.
pub fn giant(env: &Environment) -> weir::Result<()> {
    env.generate(1, |n| n).rebalance().map(|n| vec![1_u8; (1 << 60) + n as usize].len() as u64).name("giant").discard();
    Ok(())
}
