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

#[cfg(test)]
mod tests {
    use super::*;

    fn said(values: &[&str]) -> Connection {
        let mut connection = Connection::default();
        for value in values {
            let line = Line { whole: b"", name: b"Connection", value: value.as_bytes(), value_at: 0 };
            connection.read(&line, true);
        }
        connection
    }

    #[test]
    fn who_says_nothing_stays_but_with_http_1_0() {
        assert!(said(&[]).stays(false));
        assert!(!said(&[]).stays(true));
        assert!(said(&["Keep-Alive"]).stays(true));
        assert!(!said(&["Close"]).stays(false));
    }

    #[test]
    fn a_word_counts_wherever_it_is_in_the_list_and_only_as_a_whole() {
        assert!(!said(&["x", "keep-alive ,\tCLOSE "]).stays(false));
        assert!(said(&["xclose, close x"]).stays(false));
        assert!(said(&["a, upgrade"]).upgrade);
    }

    #[test]
    fn it_names_lines_of_this_connection_but_never_where_a_request_goes_or_how_it_is_framed() {
        let connection = said(&["X-A , x-b", "host,content-length,transfer-encoding,connection"]);
        let mut left = Vec::new();
        let lines = b"x-a: 1\r\nX-B: 2\r\nX-C: x-a\r\nHost: a\r\nContent-Length: 1\r\n";
        connection.without_named(lines, &mut left);
        assert_eq!(left, b"X-C: x-a\r\nHost: a\r\nContent-Length: 1\r\n");
        assert!(!connection.names(b"transfer-encoding") && !connection.names(b"connection"));
    }

    #[test]
    fn nothing_is_named_by_close_keep_alive_and_a_proxys_connection() {
        let mut connection = said(&["close", "keep-alive"]);
        connection.read(&Line { whole: b"", name: b"Proxy-Connection", value: b"x-a", value_at: 0 }, false);
        assert!(!connection.names_any());
    }
}
