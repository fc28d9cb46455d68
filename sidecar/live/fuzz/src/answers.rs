//! A model's bytes: however they are cut the same answer, which another parser reads as we do.

use crate::head::{AnswerHead, AnswerReader, Reading};
use crate::model::{answer, End, Outcome};

pub fn target(data: &[u8]) {
    let Some((&first, data)) = data.split_first() else { return };
    let to_head = first & 3 == 1;
    let (message, pieces) = crate::cut(data);
    let whole = answer(to_head, &[message]);
    same(&whole, &answer(to_head, &pieces));
    let bytes: Vec<&[u8]> = message.chunks(1).collect();
    same(&whole, &answer(to_head, &bytes));
    if let Some((raw, head)) = &whole.head {
        read_alike(raw, head);
        written(head);
    }
    if whole.end == End::Whole {
        assert!(whole.head.is_some());
    }
}

pub fn same(whole: &Outcome, cut: &Outcome) {
    assert_eq!((whole.end, &whole.body), (cut.end, &cut.body));
    assert_eq!(format!("{:?}", whole.head), format!("{:?}", cut.head));
}

/// By another parser, where it takes the first line.
fn read_alike(raw: &[u8], head: &AnswerHead) {
    let raw = raw.trim_ascii_start();
    let mut room = [httparse::EMPTY_HEADER; 256];
    let mut theirs = httparse::Response::new(&mut room);
    match theirs.parse(raw) {
        Ok(status) => assert_eq!(status, httparse::Status::Complete(raw.len())),
        Err(httparse::Error::Status | httparse::Error::Version) => return, // odd bytes in a reason; HTTP/0.9
        Err(error) => panic!("{error}: {}", raw.escape_ascii()),
    }
    assert_eq!(theirs.code, Some(head.status));
    let said = |name: &str| -> Vec<&[u8]> {
        let headers = theirs.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        headers.map(|header| header.value.trim_ascii()).collect()
    };
    match (said("content-length").as_slice(), said("transfer-encoding").as_slice()) {
        ([], []) => assert!(head.length.is_none() && !head.chunked),
        ([digits], []) => {
            let digits = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
            assert!(digits.is_some() && digits == head.length && !head.chunked);
        }
        ([], [coding]) => assert!(head.chunked && head.length.is_none() && coding.eq_ignore_ascii_case(b"chunked")),
        other => panic!("framing: {other:?}"),
    }
    // Each line that is passed on is one of theirs, in their order.
    let mut theirs = theirs.headers.iter();
    for line in head.lines.split_inclusive(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r\n").unwrap_or_else(|| panic!("no line: {line:?}"));
        let found = theirs.any(|header| {
            let (name, value) = (header.name.as_bytes(), header.value.trim_ascii());
            line.strip_prefix(name)
                .and_then(|rest| rest.strip_prefix(b": "))
                .is_some_and(|said| said.trim_ascii() == value)
        });
        assert!(found, "{}", line.escape_ascii());
    }
}

/// Read once more, what is passed on is the same, and says nothing of a connection.
fn written(head: &AnswerHead) {
    let framing = match (head.length, head.chunked) {
        (Some(length), _) => format!("content-length: {length}\r\n"),
        (None, true) => "transfer-encoding: chunked\r\n".to_owned(),
        (None, false) => String::new(),
    };
    let status = format!("HTTP/1.1 {}\r\n", head.status);
    let sent = [status.as_bytes(), &head.lines, framing.as_bytes(), b"\r\n"].concat();
    let mut reader = AnswerReader::new();
    match reader.read(&sent, &crate::rules(), false) {
        Reading::Whole(again, used) => {
            assert_eq!(used, sent.len());
            assert_eq!((&again.lines, again.length, again.chunked), (&head.lines, head.length, head.chunked));
            assert!(again.keep);
        }
        other => panic!("{other:?} of {}", sent.escape_ascii()),
    }
}
