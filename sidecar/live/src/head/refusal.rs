//! Answers of our own, to what is no request, or cannot be served. It must not know connections.

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    BadRequest,
    RequestTimeout,
    HeadTooLarge,
    NotImplemented,
    BadGateway,
    NoRoom,
    GatewayTimeout,
    VersionNotSupported,
}

impl Refusal {
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::RequestTimeout => 408,
            Self::HeadTooLarge => 431,
            Self::NotImplemented => 501,
            Self::BadGateway => 502,
            Self::NoRoom => 503,
            Self::GatewayTimeout => 504,
            Self::VersionNotSupported => 505,
        }
    }

    pub fn reason(self) -> &'static str {
        match self {
            Self::BadRequest => "Bad Request",
            Self::RequestTimeout => "Request Timeout",
            Self::HeadTooLarge => "Request Header Fields Too Large",
            Self::NotImplemented => "Not Implemented",
            Self::BadGateway => "Bad Gateway",
            Self::NoRoom => "Service Unavailable",
            Self::GatewayTimeout => "Gateway Timeout",
            Self::VersionNotSupported => "HTTP Version Not Supported",
        }
    }

    /// The connection is closed behind it. To a HEAD without a body, where it is known to be one.
    pub fn answer(self, to_head: bool) -> Vec<u8> {
        let (status, reason) = (self.status(), self.reason());
        let text = format!("{status} {reason}\n");
        let length = text.len();
        let body = if to_head { "" } else { &text };
        format!(
            "HTTP/1.1 {status} {reason}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\
             connection: close\r\n\r\n{body}"
        )
        .into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_ours_says_its_length_and_that_it_is_the_last() {
        let answer = Refusal::HeadTooLarge.answer(false);
        assert_eq!(
            answer,
            b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain\r\ncontent-length: 36\r\n\
              connection: close\r\n\r\n431 Request Header Fields Too Large\n"
        );
    }

    #[test]
    fn a_head_request_is_refused_without_a_body() {
        assert!(Refusal::NoRoom.answer(true).ends_with(b"content-length: 24\r\nconnection: close\r\n\r\n"));
    }
}
