//! Where a candidate is, by its base URL. It must not know what it is asked.

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// A name or an address, without brackets.
    pub host: String,
    pub port: u16,
    /// What its paths begin with.
    pub prefix: Vec<u8>,
}

const SCHEME: &str = "http://";

/// None: it is not http, or no URL that could stand in a request line.
pub fn candidate_of(url: &str) -> Option<Candidate> {
    if !url.get(..SCHEME.len())?.eq_ignore_ascii_case(SCHEME) || url.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return None;
    }
    let rest = &url[SCHEME.len()..];
    let (authority, behind) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let path = &behind[..behind.find(['?', '#']).unwrap_or(behind.len())];
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    let (host, port) = match place.strip_prefix('[') {
        Some(bracketed) => {
            let (host, port) = bracketed.split_once(']')?;
            (host, if port.is_empty() { "" } else { port.strip_prefix(':')? })
        }
        None => place.split_once(':').unwrap_or((place, "")),
    };
    if host.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let port = if port.is_empty() { 0 } else { port.parse().ok()? };
    Some(Candidate {
        host: host.to_ascii_lowercase(),
        port: if port == 0 { 80 } else { port },
        prefix: path.trim_end_matches('/').into(),
    })
}

#[cfg(test)]
mod tests {
    use super::{candidate_of, Candidate};

    #[test]
    fn host_port_and_prefix_are_read() {
        for (url, host, port, prefix) in [
            ("http://127.0.0.1:9", "127.0.0.1", 9, ""),
            ("HTTP://Fraud.ns.svc/", "fraud.ns.svc", 80, ""),
            ("http://a:8000/next//", "a", 8000, "/next"),
            ("http://a:0/v1/m?x=/y#/z", "a", 80, "/v1/m"),
            ("http://u:p@[::1]:81/p", "::1", 81, "/p"),
            ("http://[::1]", "::1", 80, ""),
            ("http://a:?x", "a", 80, ""),
        ] {
            let expected = Candidate { host: host.into(), port, prefix: prefix.into() };
            assert_eq!(candidate_of(url), Some(expected), "{url}");
        }
    }

    #[test]
    fn what_is_none_is_none() {
        let no_places = "|a|https://a|http:/a|http://|http:///p|http://:80|http://a:x|http://a:65536|http://a:+1";
        let no_texts = "http://[::1|http://[::1]x|http://a/b c|http://a/\r\nX: y|ftp://a|é://aaaaa";
        for url in no_places.split('|').chain(no_texts.split('|')) {
            assert_eq!(candidate_of(url), None, "{url:?}");
        }
    }
}
