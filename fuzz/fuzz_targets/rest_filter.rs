#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hostile::fuzz("rest_filter", data));
