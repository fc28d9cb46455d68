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
