//! `appliance/fuzz/src/targets/superblock.rs` under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| drop(cairn_fuzz::targets::superblock::run(input)));
