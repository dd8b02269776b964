//! `appliance/fuzz/src/targets/nfs_args.rs` under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| drop(cairn_fuzz::targets::nfs_args::run(input)));
