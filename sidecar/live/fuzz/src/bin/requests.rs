//! `requests`, driven by libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| modelcanary_live_fuzz::requests::target(data));
