//! `appliance/fuzz/src/target/mount_args.rs` under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| drop(cairn_fuzz::target::mount_args::run(input)));
