//! `appliance/fuzz/src/targets/log_batch.rs` under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| drop(cairn_fuzz::targets::log_batch::run(input)));
