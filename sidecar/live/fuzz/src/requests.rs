//! A client's bytes: however they are cut the same requests, which another parser reads as we do, and so does whoever
//! gets what is sent on.

use crate::client::{converse, End, Outcome, Request};
use crate::head::{id_text, Framing, MAX_HEAD};

const DROPPED: [&str; 12] = [
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
    "http2-settings",
    "proxy-authorization",
    "proxy-authenticate",
    "connection",
    "expect",
    "content-length",
    "transfer-encoding",
];

pub fn target(data: &[u8]) {
    let (message, pieces) = crate::cut(data);
    let whole = converse(&[message]);
    same(&whole, &converse(&pieces));
    let bytes: Vec<&[u8]> = message.chunks(1).collect();
    same(&whole, &converse(&bytes));
    for request in &whole.requests {
        read_alike(request);
        sent_on(request);
        copied(request);
    }
}

pub fn same(whole: &Outcome, cut: &Outcome) {
    assert_eq!(whole.end, cut.end);
    assert_eq!(whole.requests.len(), cut.requests.len());
    for (one, other) in whole.requests.iter().zip(&cut.requests) {
        assert_eq!(one.sent(), other.sent());
        assert_eq!(format!("{:?}", one.head), format!("{:?}", other.head));
    }
}

/// By another parser: the same method and target, the same lines in the same order but for those that are dropped, and
/// the same framing.
fn read_alike(request: &Request) {
    let raw = request.raw.trim_ascii_start();
    let mut room = [httparse::EMPTY_HEADER; 256];
    let mut theirs = httparse::Request::new(&mut room);
    let mut config = httparse::ParserConfig::default();
    config.allow_multiple_spaces_in_request_line_delimiters(true);
    let parsed = config.parse_request(&mut theirs, raw);
    assert_eq!(parsed, Ok(httparse::Status::Complete(raw.len())), "{:?}", raw.escape_ascii().to_string());
    let head = &request.head;
    assert_eq!(theirs.method.map(str::as_bytes), Some(head.method()));
    assert_eq!(theirs.version, Some(u8::from(!head.http10)));
    let path = theirs.path.unwrap_or_default().as_bytes();
    if path.starts_with(b"/") || path == b"*" {
        assert_eq!(path, head.target());
    } else {
        assert!(path.ends_with(head.target()) || head.target() == b"/");
    }
    let said = |name: &str| -> Vec<&[u8]> {
        let headers = theirs.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        headers.map(|header| header.value.trim_ascii()).collect()
    };
    match (said("content-length").as_slice(), said("transfer-encoding").as_slice(), head.framing) {
        ([], [], Framing::None) => {}
        ([digits], [], Framing::Length(length)) => {
            assert_eq!(std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()), Some(length));
        }
        ([], [coding], Framing::Chunked) => assert!(coding.eq_ignore_ascii_case(b"chunked")),
        other => panic!("framing: {other:?}"),
    }
    let named: Vec<u8> = said("connection").join(&b','.to_owned());
    let named: Vec<&[u8]> = named.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).collect();
    let sent = lines(&head.bytes);
    let mut sent = sent.iter().filter(|(name, _)| !DROPPED.contains(&name.as_str())).peekable();
    for header in theirs.headers.iter() {
        let name = header.name.to_ascii_lowercase();
        if sent.peek().is_some_and(|(next, value)| *next == name && value.trim_ascii() == header.value.trim_ascii()) {
            sent.next();
            continue;
        }
        let dropped = DROPPED.contains(&name.as_str()) || name.starts_with("x-modelcanary-");
        let named = named.iter().any(|token| token.eq_ignore_ascii_case(name.as_bytes()));
        assert!(dropped || named || (name == "x-request-id" && header.value.is_empty()), "{name} is missing");
    }
    if let Some((name, _)) = sent.next() {
        assert!(head.http10 && name == "host", "{name} was added");
    }
    assert!(sent.next().is_none());
}

/// Names in lower case, and values, of a head that was written.
fn lines(head: &[u8]) -> Vec<(String, Vec<u8>)> {
    let text = head.strip_suffix(b"\r\n\r\n").unwrap_or_else(|| panic!("no head ends so"));
    let mut lines = Vec::new();
    for line in text.split(|&byte| byte == b'\n').skip(1) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let colon = line.windows(2).position(|two| two == b": ").unwrap_or_else(|| panic!("no line: {line:?}"));
        lines.push((String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase(), line[colon + 2..].to_vec()));
    }
    lines
}

/// Read once more, what is sent on is the same, and all of it is one request.
fn sent_on(request: &Request) {
    let sent = request.sent();
    let again = converse(&[&sent]);
    assert_eq!((again.requests.len(), again.end), (1, End::Kept));
    assert_eq!(again.requests[0].sent(), sent);
    assert_eq!(again.requests[0].head.framing, request.head.framing);
    let names: Vec<String> = lines(&request.head.bytes).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.iter().filter(|name| *name == "host").count(), 1);
    assert!(names.iter().all(|name| !name.starts_with("x-modelcanary-")));
    let framing = names.iter().filter(|name| matches!(name.as_str(), "content-length" | "transfer-encoding")).count();
    assert_eq!(framing, usize::from(request.head.framing != Framing::None));
    if let Some(text) = request.head.id.as_deref().and_then(id_text) {
        assert!(!text.is_empty() && text.len() <= 512 && text.trim_matches(' ') == text);
    }
}

/// A copy has no credentials but where they are to be forwarded, and asks for an answer as it is.
fn copied(request: &Request) {
    for forward in [false, true] {
        let mut copy = Vec::new();
        request.head.mirror_lines(forward, &mut copy);
        assert!(copy.len() <= MAX_HEAD + 64);
        let head = [&b"GET / HTTP/1.1\r\n"[..], &copy, b"\r\n"].concat();
        let copy = lines(&head);
        assert_eq!(copy.iter().filter(|(name, _)| name == "accept-encoding").count(), 1);
        let mut candidate = Vec::new();
        request.head.to_candidate(forward, request.body.len(), &mut candidate);
        for (name, _) in copy.iter().chain(&lines(&candidate)) {
            assert!(forward || !matches!(name.as_str(), "cookie" | "authorization"));
            assert_ne!(name, "transfer-encoding");
        }
    }
}
