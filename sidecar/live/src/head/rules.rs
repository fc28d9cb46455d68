//! What is special about a header, by its name: what is dropped, what frames, what a copy leaves out. Pure tables; it
//! must not know whose head it is.

/// Of one head, in bytes and in lines.
pub const MAX_HEAD: usize = 64 << 10;
pub const MAX_HEADERS: usize = 256;
const LONGEST_ID: usize = 256;
const OUR_PREFIX: &[u8] = b"x-modelcanary-";

/// All that is not named here is forwarded as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Special {
    Plain,
    /// A mirrored copy leaves it out: its answer is to be read.
    AcceptEncoding,
    /// The candidate gets it with `forwardCredentials` only.
    Credential,
    /// `X-ModelCanary-`: nobody but we may say it to a model.
    Ours,
    /// It concerns one connection.
    Dropped,
    /// Dropped as well, but clients say with it whether they stay.
    ProxyConnection,
    Upgrade,
    Length,
    Coding,
    Connection,
    Expect,
    Host,
    Id,
    CeId,
}

pub struct Rules {
    /// How a header line with an id begins: `X-Request-Id: `.
    pub id_line: Vec<u8>,
    id_name: Vec<u8>,
    /// Stands in for a Host that HTTP/1.0 may leave out.
    pub authority: Vec<u8>,
}

impl Rules {
    pub fn new(id_header: &str, authority: &str) -> Self {
        let name: Vec<u8> = id_header.chars().map(|char| u8::try_from(char).unwrap_or(b'?')).collect();
        let id_line = [&name[..], b": "].concat();
        let mut id_name = name.to_ascii_lowercase();
        // A header that has a meaning of its own cannot carry ids as well; Ce-Id may.
        if !matches!(special(&id_name), Special::Plain | Special::Ours | Special::CeId) {
            id_name.clear();
        }
        Self { id_line, id_name, authority: authority.as_bytes().to_vec() }
    }

    /// As it was configured.
    pub fn id_header(&self) -> &[u8] {
        &self.id_line[..self.id_line.len() - 2]
    }

    pub fn special(&self, name: &[u8]) -> Special {
        if name.len() == self.id_name.len() && name.eq_ignore_ascii_case(&self.id_name) {
            return Special::Id;
        }
        special(name)
    }
}

/// By the length first, so that most names are compared with nothing.
pub fn special(name: &[u8]) -> Special {
    let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
    match name.len() {
        2 if is(b"te") => Special::Dropped,
        4 if is(b"host") => Special::Host,
        5 if is(b"ce-id") => Special::CeId,
        6 if is(b"cookie") => Special::Credential,
        6 if is(b"expect") => Special::Expect,
        7 if is(b"upgrade") => Special::Upgrade,
        7 if is(b"trailer") => Special::Dropped,
        10 if is(b"connection") => Special::Connection,
        10 if is(b"keep-alive") => Special::Dropped,
        13 if is(b"authorization") => Special::Credential,
        14 if is(b"content-length") => Special::Length,
        14 if is(b"http2-settings") => Special::Dropped,
        15 if is(b"accept-encoding") => Special::AcceptEncoding,
        16 if is(b"proxy-connection") => Special::ProxyConnection,
        17 if is(b"transfer-encoding") => Special::Coding,
        18 if is(b"proxy-authenticate") => Special::Dropped,
        19 if is(b"proxy-authorization") => Special::Dropped,
        14.. if name[..OUR_PREFIX.len()].eq_ignore_ascii_case(OUR_PREFIX) => Special::Ours,
        _ => Special::Plain,
    }
}

/// What may be a Host (RFC 3986, 3.2.2 and 3.2.3); what is none must be refused (RFC 9112, 3.2).
pub fn is_host(value: &[u8]) -> bool {
    let name = if value.first() == Some(&b'[') {
        value.iter().position(|&byte| byte == b']').map_or(0, |end| end + 1)
    } else {
        value.iter().position(|&byte| byte == b':').unwrap_or(value.len())
    };
    let (name, port) = value.split_at(name);
    let sound = match name {
        [b'[', address @ .., b']'] => {
            !address.is_empty() && address.iter().all(|byte| byte.is_ascii_alphanumeric() || b":.".contains(byte))
        }
        _ => {
            !name.is_empty()
                && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_.~!$&'()*+,;=%-".contains(byte))
        }
    };
    sound && (port.is_empty() || (port[0] == b':' && port[1..].iter().all(u8::is_ascii_digit)))
}

/// Digits alone, and below 2^64.
pub fn length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |length, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then(|| length.checked_mul(10)?.checked_add(u64::from(digit))).flatten()
    })
}

/// A client's id as text; None where it cannot be one: then the request is served and not mirrored.
pub fn id_text(value: &[u8]) -> Option<String> {
    let visible = |byte: &u8| matches!(byte, 0x21..=0x7e | 0x80..);
    if value.len() > LONGEST_ID || !visible(value.first()?) || !visible(value.last()?) {
        return None;
    }
    if !value.iter().all(|byte| visible(byte) || *byte == b' ') {
        return None;
    }
    Some(match std::str::from_utf8(value) {
        Ok(text) => text.to_owned(),
        Err(_) => value.iter().map(|&byte| char::from(byte)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_case_and_by_all_of_their_letters() {
        let rules = Rules::new("X-Request-Id", "a");
        for (name, special) in [
            (&b"TE"[..], Special::Dropped),
            (b"Host", Special::Host),
            (b"ce-ID", Special::CeId),
            (b"Cookie", Special::Credential),
            (b"EXPECT", Special::Expect),
            (b"Upgrade", Special::Upgrade),
            (b"Trailer", Special::Dropped),
            (b"Connection", Special::Connection),
            (b"Keep-Alive", Special::Dropped),
            (b"Authorization", Special::Credential),
            (b"Content-Length", Special::Length),
            (b"HTTP2-Settings", Special::Dropped),
            (b"Accept-Encoding", Special::AcceptEncoding),
            (b"Proxy-Connection", Special::ProxyConnection),
            (b"Transfer-Encoding", Special::Coding),
            (b"Proxy-Authenticate", Special::Dropped),
            (b"Proxy-Authorization", Special::Dropped),
            (b"X-ModelCanary-", Special::Ours),
            (b"x-modelcanary-anything", Special::Ours),
            (b"x-request-id", Special::Id),
            (b"X-ModelCanary", Special::Plain),
            (b"Content_Length", Special::Plain),
            (b"Hos", Special::Plain),
        ] {
            assert_eq!(rules.special(name), special, "{}", String::from_utf8_lossy(name));
        }
    }

    #[test]
    fn a_header_with_a_meaning_of_its_own_carries_no_ids_but_ce_id_may() {
        assert_eq!(Rules::new("Host", "a").special(b"Host"), Special::Host);
        assert_eq!(Rules::new("Cookie", "a").special(b"cookie"), Special::Credential);
        assert_eq!(Rules::new("Ce-Id", "a").special(b"ce-id"), Special::Id);
        assert_eq!(Rules::new("X-ModelCanary-Id", "a").special(b"x-modelcanary-id"), Special::Id);
    }

    #[test]
    fn how_a_line_with_an_id_begins_is_as_it_was_configured() {
        let rules = Rules::new("X-Trace-Id", "a");
        assert_eq!(rules.id_line, b"X-Trace-Id: ");
        assert_eq!(rules.id_header(), b"X-Trace-Id");
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
        for host in [&b"a"[..], b"a:80", b"a:", b"A_b.c~!$&'()*+,;=%-", b"[::1]:80", b"[::1]", b"1.2.3.4"] {
            assert!(is_host(host), "{}", String::from_utf8_lossy(host));
        }
        for other in [
            &b""[..],
            b":80",
            b"a b",
            b"u@a",
            b"a/b",
            b"a?b",
            b"a#b",
            b"a\\b",
            b"http://a",
            b"\xe9",
            b"a:b",
            b"a:1:2",
            b"[a",
            b"[]",
            b"[::1]x",
            b"[:g/]",
            b"a]",
            b"a\"b",
            b"a<b",
            b"a ",
            b"a\x00",
        ] {
            assert!(!is_host(other), "{}", String::from_utf8_lossy(other));
        }
    }

    #[test]
    fn a_length_is_digits_below_two_to_the_64() {
        assert_eq!(length(b"0005"), Some(5));
        assert_eq!(length(b"18446744073709551615"), Some(u64::MAX));
        for other in [
            &b""[..],
            b"18446744073709551616",
            b"99999999999999999999",
            b"+5",
            b"-0",
            b"5 6",
            b"5,5",
            b"0x5",
            b"5:",
            b"5\x0c",
        ] {
            assert_eq!(length(other), None, "{}", String::from_utf8_lossy(other));
        }
    }

    #[test]
    fn an_id_is_text_without_blanks_around_it_of_256_bytes_at_most() {
        assert_eq!(id_text(b"a b").as_deref(), Some("a b"));
        assert_eq!(id_text("é".as_bytes()).as_deref(), Some("é"));
        assert_eq!(id_text(b"\xe9").as_deref(), Some("é"));
        assert!(id_text(&[b'a'; 256]).is_some());
        for other in [&b""[..], b" a", b"a ", b"a\tb", b"a\x7f", &[b'a'; 257]] {
            assert_eq!(id_text(other), None, "{}", String::from_utf8_lossy(other));
        }
    }
}
