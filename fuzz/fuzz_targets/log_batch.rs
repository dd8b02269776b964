//! `appliance/fuzz/src/target/log_batch.rs` under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| drop(cairn_fuzz::target::log_batch::run(input)));
