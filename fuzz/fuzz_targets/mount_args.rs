//! `appliance/fuzz/src/targets/mount_args.rs` under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| drop(cairn_fuzz::targets::mount_args::run(input)));
