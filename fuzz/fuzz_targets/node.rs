//! `appliance/fuzz/src/targets/node.rs` under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| drop(cairn_fuzz::targets::node::run(input)));
