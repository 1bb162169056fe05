//! The checked-in code is what the `.proto` files generate.
//!
//! It is checked in so that whoever builds a job compiles prost and nothing else: no protobuf compiler, no build script.

use std::path::Path;

const PROTOS: [&str; 6] = [
    "weir/job_graph.proto",
    "weir/worker.proto",
    "weir/coordinator.proto",
    "weir/provider.proto",
    "weir/control.proto",
    "weir/storage.proto",
];

#[test]
fn checked_in_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let descriptors = protox::compile(PROTOS, [root.join("proto")]).expect("the .proto files are valid");
    let scratch = tempfile::tempdir().unwrap();
    prost_build::Config::new()
        .out_dir(scratch.path())
        .btree_map(["."])
        // What is large, or is shared by many messages.
        .bytes([
            ".weir.control.AnswerChunk.data",
            ".weir.control.Chunk.data",
            ".weir.control.Deploy.plan",
            ".weir.control.SplitAnswer.answer",
        ])
        .service_generator(tonic_prost_build::configure().service_generator())
        .compile_fds(descriptors)
        .expect("prost generates code");

    let bless = std::env::var_os("WEIR_BLESS").is_some_and(|value| value == "1");
    for proto in PROTOS {
        let file = format!("{}.rs", proto.trim_end_matches(".proto").replace('/', "."));
        let fresh = std::fs::read_to_string(scratch.path().join(&file)).unwrap();
        let checked_in = root.join("src/generated").join(&file);
        if bless {
            std::fs::write(&checked_in, &fresh).unwrap();
            continue;
        }
        let found = std::fs::read_to_string(&checked_in).unwrap_or_default();
        assert!(
            found == fresh,
            "src/generated/{file} differs from what proto/{proto} generates: run `WEIR_BLESS=1 cargo test -p weir-proto --test generated`"
        );
    }
}
