//! Jobs that cannot start.

use weir::prelude::*;

pub fn builder_panics(_env: &Environment) -> weir::Result<()> {
    panic!("no fish in the builder")
}

/// Takes the process that plans it down.
pub fn builder_aborts(_env: &Environment) -> weir::Result<()> {
    eprintln!("about to abort while planning");
    std::process::abort()
}

/// Ends the process that plans it as if all were well.
pub fn builder_exits(_env: &Environment) -> weir::Result<()> {
    std::process::exit(0)
}

/// Never comes to a plan.
pub fn builder_hangs(_env: &Environment) -> weir::Result<()> {
    loop {
        std::thread::sleep(std::time::Duration::from_secs(3600));
    }
}

/// Takes memory while it plans, until somebody ends it.
pub fn builder_hoards(_env: &Environment) -> weir::Result<()> {
    let mut hoard: Vec<Vec<u8>> = Vec::new();
    loop {
        hoard.push(vec![1; 4 << 20]);
        std::thread::sleep(std::time::Duration::from_millis(20));
        std::hint::black_box(&hoard);
    }
}

/// Builds another graph each time.
pub fn random(env: &Environment) -> weir::Result<()> {
    let stream = env.generate(10, |n| n).name(&format!("numbers of {}", std::process::id()));
    stream.rebalance().discard();
    Ok(())
}

pub fn no_sink(env: &Environment) -> weir::Result<()> {
    let _ = env.generate(10, |n| n).map(|n| n + 1).name("loose end");
    Ok(())
}

pub fn no_source(_env: &Environment) -> weir::Result<()> {
    Ok(())
}

pub fn unread_side(env: &Environment) -> weir::Result<()> {
    let tag = OutputTag::<u64>::new("late");
    let process = env.generate(10, |n| n).process_with(|n: u64, context: &mut ProcessContext<u64>| context.emit(n));
    let (main, _side) = process.name("splitter").side_output(&tag);
    main.discard();
    Ok(())
}

pub fn unread_share(env: &Environment) -> weir::Result<()> {
    let _ = env.generate(10, |n| n).map(|n| n).name("shared").share();
    Ok(())
}

pub fn again_uid(env: &Environment) -> weir::Result<()> {
    env.generate(10, |n| n).uid("same").map(|n| n).name("second").uid("same").discard();
    Ok(())
}

pub fn zero(env: &Environment) -> weir::Result<()> {
    env.generate(10, |n| n).map(|n| n).name("nobody").parallelism(0).discard();
    Ok(())
}

pub fn above_max(env: &Environment) -> weir::Result<()> {
    env.generate(10, |n| n).map(|n| n).name("crowd").parallelism(9).max_parallelism(8).discard();
    Ok(())
}

pub fn refuses(_env: &Environment) -> weir::Result<()> {
    Err(weir::Error::job("the moon is not full; run this job on another day"))
}

#[derive(weir::Args)]
pub struct Clashes {
    /// Also an option of the runtime
    #[arg(long)]
    parallelism: u32,
}

pub fn clashes(env: &Environment, options: Clashes) -> weir::Result<()> {
    env.generate(10, |n| n).parallelism(options.parallelism).discard();
    Ok(())
}
