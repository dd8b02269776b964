//! `appliance/fuzz/src/target/nfs_args.rs` under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| drop(cairn_fuzz::target::nfs_args::run(input)));
