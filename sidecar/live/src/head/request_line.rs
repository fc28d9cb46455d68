//! The first line of a request, however it comes. It must not know header lines, nor what is forwarded.

use super::refusal::Refusal;
use super::scan::target_end;

/// Those that are registered, but CONNECT, whose tunnel leads nowhere, and PRI, which is HTTP/2's.
const METHODS: [&[u8]; 34] = [
    b"GET",
    b"POST",
    b"PUT",
    b"HEAD",
    b"DELETE",
    b"OPTIONS",
    b"PATCH",
    b"TRACE",
    b"QUERY",
    b"COPY",
    b"LOCK",
    b"MKCOL",
    b"MOVE",
    b"PROPFIND",
    b"PROPPATCH",
    b"SEARCH",
    b"UNLOCK",
    b"BIND",
    b"REBIND",
    b"UNBIND",
    b"ACL",
    b"REPORT",
    b"MKACTIVITY",
    b"CHECKOUT",
    b"MERGE",
    b"M-SEARCH",
    b"NOTIFY",
    b"SUBSCRIBE",
    b"UNSUBSCRIBE",
    b"PURGE",
    b"MKCALENDAR",
    b"LINK",
    b"UNLINK",
    b"SOURCE",
];
const SCHEME: &[u8] = b"http://";
const VERSION: &[u8] = b"HTTP/";

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Target {
    /// A path, or the asterisk of OPTIONS.
    #[default]
    Origin,
    /// With scheme and host.
    Absolute,
}

#[derive(Clone, Copy, Default)]
enum Stage {
    /// Before the line, where empty ones may be.
    #[default]
    Empty,
    Method,
    BeforeTarget,
    TargetBegins,
    Target,
    BeforeVersion,
    Version,
}

#[derive(Default)]
pub struct RequestLine {
    stage: Stage,
    at: usize,
    pub method_start: usize,
    pub method_end: usize,
    pub target_start: usize,
    pub target_end: usize,
    pub target: Target,
    pub http10: bool,
}

impl RequestLine {
    /// Where the line ends, behind its CRLF; none: there is more to come.
    pub fn read(&mut self, input: &[u8]) -> Result<Option<usize>, Refusal> {
        loop {
            match self.stage {
                Stage::Empty => {
                    while let Some(b'\r' | b'\n') = input.get(self.at) {
                        self.at += 1;
                    }
                    if self.at == input.len() {
                        return Ok(None);
                    }
                    self.method_start = self.at;
                    self.stage = Stage::Method;
                }
                Stage::Method => {
                    let Some(size) = method(&input[self.at..])? else { return Ok(None) };
                    self.method_end = self.at + size;
                    self.at = self.method_end + 1;
                    self.stage = Stage::BeforeTarget;
                }
                Stage::BeforeTarget => {
                    if !self.pass_spaces(input) {
                        return Ok(None);
                    }
                    self.target_start = self.at;
                    self.stage = Stage::TargetBegins;
                }
                Stage::TargetBegins => {
                    let rest = &input[self.at..];
                    match rest[0] {
                        b'/' => self.at += 1,
                        b'*' => {
                            if &input[self.method_start..self.method_end] != b"OPTIONS" {
                                return Err(Refusal::BadRequest);
                            }
                            match rest.get(1) {
                                None => return Ok(None),
                                Some(b' ') => self.at += 1,
                                Some(_) => return Err(Refusal::BadRequest),
                            }
                        }
                        _ => {
                            let common = rest.len().min(SCHEME.len());
                            if !rest[..common].eq_ignore_ascii_case(&SCHEME[..common]) {
                                return Err(Refusal::BadRequest);
                            }
                            if common < SCHEME.len() {
                                return Ok(None);
                            }
                            self.at += common;
                            self.target = Target::Absolute;
                        }
                    }
                    self.stage = Stage::Target;
                }
                Stage::Target => {
                    self.at = target_end(input, self.at);
                    match input.get(self.at) {
                        None => return Ok(None),
                        Some(b' ') => {}
                        Some(b'\r') => {
                            // HTTP/0.9 has no version
                            return match input.get(self.at + 1) {
                                None => Ok(None),
                                Some(b'\n') => Err(Refusal::VersionNotSupported),
                                Some(_) => Err(Refusal::BadRequest),
                            };
                        }
                        Some(_) => return Err(Refusal::BadRequest),
                    }
                    self.target_end = self.at;
                    self.at += 1;
                    self.stage = Stage::BeforeVersion;
                }
                Stage::BeforeVersion => {
                    if !self.pass_spaces(input) {
                        return Ok(None);
                    }
                    self.stage = Stage::Version;
                }
                Stage::Version => {
                    let Some(http10) = version(&input[self.at..])? else { return Ok(None) };
                    self.http10 = http10;
                    self.at += VERSION.len() + 5;
                    return Ok(Some(self.at));
                }
            }
        }
    }

    /// False: more of them may come.
    fn pass_spaces(&mut self, input: &[u8]) -> bool {
        while input.get(self.at) == Some(&b' ') {
            self.at += 1;
        }
        self.at < input.len()
    }
}

/// How long the method is, once the space behind it is here.
fn method(input: &[u8]) -> Result<Option<usize>, Refusal> {
    let mut possible = false;
    for method in METHODS {
        if input.len() > method.len() {
            if input[method.len()] == b' ' && input.starts_with(method) {
                return Ok(Some(method.len()));
            }
        } else {
            possible |= method.starts_with(input);
        }
    }
    if possible {
        Ok(None)
    } else {
        Err(Refusal::BadRequest)
    }
}

/// Whether it is HTTP/1.0, once the line's end is here.
fn version(input: &[u8]) -> Result<Option<bool>, Refusal> {
    if let Some(line) = input.get(..VERSION.len() + 5) {
        match line {
            b"HTTP/1.1\r\n" => return Ok(Some(false)),
            b"HTTP/1.0\r\n" => return Ok(Some(true)),
            _ => {}
        }
    }
    for (at, &byte) in input.iter().enumerate().take(VERSION.len() + 5) {
        let sound = match at {
            0..=4 => byte == VERSION[at],
            5 | 7 => byte.is_ascii_digit(),
            6 => byte == b'.',
            8 => byte == b'\r',
            _ => byte == b'\n',
        };
        if !sound {
            return Err(Refusal::BadRequest);
        }
        if at == 7 && !matches!(&input[5..8], b"1.1" | b"1.0") {
            return Err(Refusal::VersionNotSupported);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Method, target, and whether it is HTTP/1.0.
    type Parts = (Vec<u8>, Vec<u8>, bool);

    /// The same however it is cut: byte by byte, and whole.
    fn read(input: &[u8]) -> Result<Option<Parts>, u16> {
        let mut whole = RequestLine::default();
        let outcome = whole.read(input);
        let mut cut = RequestLine::default();
        for end in 1..=input.len() {
            match cut.read(&input[..end]) {
                Ok(None) => {}
                other => {
                    assert_eq!(other, outcome);
                    break;
                }
            }
        }
        let end = outcome.map_err(Refusal::status)?;
        let part = |start: usize, end: usize| input[start..end].to_vec();
        Ok(end.map(|_| {
            (part(whole.method_start, whole.method_end), part(whole.target_start, whole.target_end), whole.http10)
        }))
    }

    fn sound(input: &str, method: &str, target: &str) {
        assert_eq!(
            read(input.as_bytes()),
            Ok(Some((method.into(), target.into(), input.contains("1.0")))),
            "{input:?}"
        );
    }

    fn refused(input: &str, status: u16) {
        assert_eq!(read(input.as_bytes()), Err(status), "{input:?}");
    }

    #[test]
    fn method_target_and_version_with_one_space_or_more_between() {
        sound("GET /x?a=b HTTP/1.1\r\n", "GET", "/x?a=b");
        sound("GET   /x   HTTP/1.0\r\n", "GET", "/x");
    }

    #[test]
    fn empty_lines_before_it_are_nothing() {
        sound("\r\n\n\r\rGET / HTTP/1.1\r\n", "GET", "/");
        let mut line = RequestLine::default();
        assert_eq!(line.read(b"\r\n"), Ok(None));
        assert_eq!(line.read(b"\r\nG"), Ok(None));
    }

    #[test]
    fn methods_are_those_that_are_registered() {
        for method in METHODS {
            let method = String::from_utf8_lossy(method);
            sound(&format!("{method} / HTTP/1.1\r\n"), &method, "/");
        }
        for other in ["get", "FOO", "GE ", "POSTX", "CONNECT", "PRI", "G/T", "GET\t", " GET", "\u{0}", "HTTP/1.1 200"] {
            refused(&format!("{other} / HTTP/1.1\r\n"), 400);
        }
    }

    #[test]
    fn it_is_refused_at_the_first_byte_that_no_method_has_there() {
        assert_eq!(RequestLine::default().read(b"SS"), Err(Refusal::BadRequest));
        assert_eq!(RequestLine::default().read(b"SE"), Ok(None));
    }

    #[test]
    fn a_target_is_a_path_the_asterisk_of_options_or_absolute() {
        sound("OPTIONS * HTTP/1.1\r\n", "OPTIONS", "*");
        sound("GET hTTp://a/x HTTP/1.1\r\n", "GET", "hTTp://a/x");
        for target in
            ["*", "x", "?x", "https://a/x", "http:/a", "http:", "/x#y", "/x\ty", "/x\u{0}y", "/é", "/x\u{7f}y"]
        {
            refused(&format!("GET {target} HTTP/1.1\r\n"), 400);
        }
        refused("OPTIONS */x HTTP/1.1\r\n", 400);
    }

    #[test]
    fn versions_are_1_0_and_1_1() {
        for version in ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/3.1"] {
            refused(&format!("GET / {version}\r\n"), 505);
        }
        for version in ["http/1.1", "HTTP/1", "HTTP/11", "HTTP/1.10", "RTSP/1.0", "HTTP/1.1 ", "HTTP/1.1x", "HTTP /1.1"]
        {
            refused(&format!("GET / {version}\r\n"), 400);
        }
        refused("GET /x\r\n", 505);
        refused("GET /x \r\n", 400);
    }

    #[test]
    fn a_line_ends_with_crlf_and_nothing_less() {
        for end in ["\n", "\r\r\n", "\rG"] {
            refused(&format!("GET / HTTP/1.1{end}"), 400);
        }
        refused("GET /\n", 400);
        refused("GET /\rx", 400);
    }
}
