//! Lines on standard error, in the form of the process that started this one. Ids and reasons, never bodies.

use std::time::{SystemTime, UNIX_EPOCH};

pub fn say(text: &str) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs() as libc::time_t;
    // SAFETY: all-zero is a valid value; both outlive the call.
    let at = unsafe {
        let mut at: libc::tm = std::mem::zeroed();
        libc::localtime_r(&seconds, &mut at);
        at
    };
    eprintln!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02},{:03} modelcanary-sidecar: {text}",
        at.tm_year + 1900,
        at.tm_mon + 1,
        at.tm_mday,
        at.tm_hour,
        at.tm_min,
        at.tm_sec,
        since.subsec_millis(),
    );
}
