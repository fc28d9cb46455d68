//! What `Connection` says: whether the peer stays, and which header lines concern this connection alone. Pure.

use super::header_lines::Line;

#[derive(Default)]
pub struct Connection {
    pub close: bool,
    pub keep_alive: bool,
    pub upgrade: bool,
    /// What it names besides, as it was said: nearly always nothing.
    named: Vec<u8>,
}

/// What it may not name: it would change where the request goes or how it is framed.
const NOT_BY_CONNECTION: [&[u8]; 4] = [b"host", b"content-length", b"transfer-encoding", b"connection"];

impl Connection {
    /// A line of `Connection`, or of `Proxy-Connection`, which names nothing.
    pub fn read(&mut self, line: &Line, names: bool) {
        let value = line.value;
        if value.eq_ignore_ascii_case(b"close") {
            self.close = true;
        } else if value.eq_ignore_ascii_case(b"keep-alive") {
            self.keep_alive = true;
        } else {
            for token in value.split(|&byte| byte == b',') {
                let token = token.trim_ascii();
                self.close |= token.eq_ignore_ascii_case(b"close");
                self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
                self.upgrade |= token.eq_ignore_ascii_case(b"upgrade");
            }
            if names {
                self.named.extend_from_slice(value);
                self.named.push(b',');
            }
        }
    }

    /// Whether the peer leaves the connection open, by what it says, or by default.
    pub fn stays(&self, http10: bool) -> bool {
        if http10 {
            self.keep_alive
        } else {
            !self.close
        }
    }

    pub fn names_any(&self) -> bool {
        !self.named.is_empty()
    }

    pub fn names(&self, name: &[u8]) -> bool {
        self.names_any()
            && !NOT_BY_CONNECTION.iter().any(|other| name.eq_ignore_ascii_case(other))
            && self.named.split(|&byte| byte == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(name))
    }

    /// Those of these lines that it does not name.
    pub fn without_named(&self, lines: &[u8], out: &mut Vec<u8>) {
        for line in lines.split_inclusive(|&byte| byte == b'\n') {
            if !self.names(name_of(line)) {
                out.extend_from_slice(line);
            }
        }
    }
}

/// Of a line that was found to be one.
pub fn name_of(line: &[u8]) -> &[u8] {
    memchr::memchr(b':', line).map_or(line, |colon| &line[..colon])
}
