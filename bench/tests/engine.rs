//! `cairn-bench engine` as a program: every row is there, and its counts are possible ones.

use serde_json::Value;
use std::process::Command;

#[test]
fn every_row_is_measured_and_the_pool_is_removed() {
    let dir = std::env::temp_dir().join(format!("cairn-bench-engine-{}", std::process::id()));
    let mut bench = Command::new(env!("CARGO_BIN_EXE_cairn-bench"));
    bench.args(["engine", "--files", "20000", "--size", "8M", "--seconds", "2", "--json"]);
    bench.args(["--pool-size", "2G", "--dir"]).arg(&dir);
    let done = bench.output().expect("it starts");
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{stderr}");
    assert!(!dir.exists(), "what it made is gone");
    let stdout = String::from_utf8(done.stdout).expect("text");
    let rows: Vec<Value> =
        stdout.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
    let names: Vec<&str> =
        rows.iter().map(|row| row["workload"].as_str().expect("a name")).collect();
    let files = ["create", "stat", "readdir", "write-1m", "write-4k", "read-1m", "read-4k"];
    let indexes = ["changes", "changes-cached", "walk-cached", "unlink"];
    assert_eq!(names, [&files[..], &indexes].concat());
    for row in &rows {
        assert!(row["operations"].as_u64().expect("a number") > 0, "{row}");
        assert!(row["p50_us"].as_f64() > Some(0.0), "{row}");
        assert!(row["p99_us"].as_f64() >= row["p50_us"].as_f64(), "{row}");
    }
    let create = &rows[0];
    let per_file = create["metadata_bytes_per_file"].as_f64().expect("a number");
    assert!(per_file > 50.0, "a file leaves something behind: {per_file}");
    let written = rows[3]["write_amplification"].as_f64().expect("a number");
    assert!((1.0..2.0).contains(&written), "a MiB is written about once: {written}");
    let read = rows[5]["blocks_read_per_op"].as_f64().expect("a number");
    assert!(read >= 100.0, "a new life reads from the device: {read}");
    let changes = |nth: usize, what: &str| rows[nth][what].as_f64().expect("a number");
    assert_eq!(changes(7, "operations"), 1.0, "what was read is in memory then");
    assert!(changes(7, "entries") >= 950.0, "a thousand files were changed, a few of them twice");
    assert!(changes(7, "blocks_read_per_op") > 0.0, "a new life reads from the device");
    assert_eq!(changes(8, "blocks_read_per_op"), 0.0, "and not again");
    assert_eq!(changes(8, "entries") / changes(8, "operations"), changes(7, "entries"));
    assert!(changes(9, "entries") > 20_000.0, "all files, and round again");
}

#[test]
fn a_pool_that_is_there_already_is_left_alone() {
    let dir = std::env::temp_dir().join(format!("cairn-bench-there-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a folder");
    std::fs::write(dir.join("pool"), "precious").expect("a file");
    let mut bench = Command::new(env!("CARGO_BIN_EXE_cairn-bench"));
    let done = bench.args(["engine", "--dir"]).arg(&dir).output().expect("it starts");
    assert!(!done.status.success());
    assert_eq!(std::fs::read(dir.join("pool")).expect("still there"), b"precious");
    std::fs::remove_dir_all(&dir).expect("ours");
}
