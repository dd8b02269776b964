//! `appliance/fuzz/src/target/control.rs` under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| drop(cairn_fuzz::target::control::run(input)));
