//! Compiles the .proto with protox, in Rust: a build needs no protoc.

/// What the command line prints as JSON, field by field.
const PRINTED: &[&str] = &[
    "StatusReply",
    "ShardStatus",
    "DeviceStatus",
    "DfEntry",
    "ReleaseReply",
    "StageReply",
    "FileExtent",
    "PunchOfflineReply",
    "DataWaiter",
    "DataWaitErrReply",
    "TriggerEntry",
    "ResizedDevice",
    "StatfsReply",
    "StatReply",
    "IndexPosition",
    "CheckFinding",
    "ExportsReply",
    "ExportEntry",
    "NfsClient",
    "NfsLimits",
    "MemoryReply",
    "MemoryPart",
    "Counter",
    "ScrubProgress",
    "DeletionsStatus",
    "ConsumerEntry",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/control.proto");
    let descriptors = protox::compile(["control.proto"], ["proto"])?;
    let mut build = tonic_prost_build::configure();
    for message in PRINTED {
        build = build.message_attribute(message, "#[derive(serde::Serialize)]");
    }
    build.compile_fds(descriptors)?;
    Ok(())
}
