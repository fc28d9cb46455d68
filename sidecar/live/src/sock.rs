//! One connected socket that never blocks, with what it would not take at once. It must not know what is said on it.

use crate::poll::{Poll, Token, READ, WRITE};
use std::io;
use std::net::SocketAddr;

pub struct Sock {
    pub descriptor: i32,
    /// What could not be sent yet, from `sent` on. While there is some the peer is said to be stalled.
    waiting: Vec<u8>,
    sent: usize,
    watched: u32,
    reading: bool,
    /// The connection is not established yet.
    pub connecting: bool,
    /// Close when what waits has been sent.
    pub ending: bool,
}

/// What became of a read.
pub enum Read {
    Some(usize),
    Nothing,
    End,
    Failed,
}

impl Drop for Sock {
    fn drop(&mut self) {
        // SAFETY: it is ours alone.
        unsafe { libc::close(self.descriptor) };
    }
}

fn set(descriptor: i32, level: i32, option: i32, value: libc::c_int) {
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the value outlives the call. Failure leaves the default, which is correct as well.
    unsafe { libc::setsockopt(descriptor, level, option, (&raw const value).cast(), size) };
}

impl Sock {
    /// One that was accepted.
    pub fn accepted(descriptor: i32) -> Self {
        set(descriptor, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1);
        Self { descriptor, waiting: Vec::new(), sent: 0, watched: 0, reading: false, connecting: false, ending: false }
    }

    /// Begin to connect; `connecting` until the first event for writing.
    pub fn connect(address: &SocketAddr) -> io::Result<Self> {
        let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        // SAFETY: no pointers are passed.
        let descriptor =
            unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut sock = Self::accepted(descriptor);
        sock.connecting = true;
        // SAFETY: all-zero is a valid value of both, and each is as long as is said.
        let result = unsafe {
            match address {
                SocketAddr::V4(v4) => {
                    let mut raw: libc::sockaddr_in = std::mem::zeroed();
                    raw.sin_family = libc::AF_INET as libc::sa_family_t;
                    raw.sin_port = v4.port().to_be();
                    raw.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
                    libc::connect(descriptor, (&raw const raw).cast(), size_of_val(&raw) as libc::socklen_t)
                }
                SocketAddr::V6(v6) => {
                    let mut raw: libc::sockaddr_in6 = std::mem::zeroed();
                    raw.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                    raw.sin6_port = v6.port().to_be();
                    raw.sin6_addr.s6_addr = v6.ip().octets();
                    raw.sin6_scope_id = v6.scope_id();
                    libc::connect(descriptor, (&raw const raw).cast(), size_of_val(&raw) as libc::socklen_t)
                }
            }
        };
        if result < 0 {
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(libc::EINPROGRESS) {
                return Err(error);
            }
        }
        Ok(sock)
    }

    /// Whether connecting succeeded: to be asked at the first event. What was written meanwhile is sent by `flush`.
    pub fn connected(&mut self) -> bool {
        self.connecting = false;
        let mut error: libc::c_int = 0;
        let mut size = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: both outlive the call.
        let result = unsafe {
            libc::getsockopt(self.descriptor, libc::SOL_SOCKET, libc::SO_ERROR, (&raw mut error).cast(), &mut size)
        };
        result == 0 && error == 0
    }

    /// Tell the kernel what is wanted now: to be called after anything below, once for them all.
    pub fn watch(&mut self, poll: &Poll, token: Token) {
        let wanted = (if self.reading && !self.connecting { READ } else { 0 })
            | (if self.connecting || !self.waiting.is_empty() { WRITE } else { 0 });
        if wanted != self.watched {
            poll.watch(self.descriptor, token, self.watched, wanted);
            self.watched = wanted;
        }
    }

    /// Whether to be told that there is something to read.
    pub fn read_on(&mut self, on: bool) {
        self.reading = on;
    }

    pub fn read(&mut self, into: &mut [u8]) -> Read {
        // SAFETY: the buffer is as long as is said.
        let size = unsafe { libc::recv(self.descriptor, into.as_mut_ptr().cast(), into.len(), 0) };
        match size {
            1.. => Read::Some(size as usize),
            0 => Read::End,
            _ => match io::Error::last_os_error().kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Read::Nothing,
                _ => Read::Failed,
            },
        }
    }

    /// Send at once what the peer takes, and keep the rest. False: the connection is broken, which its next event says.
    pub fn write(&mut self, pieces: &[&[u8]]) -> bool {
        let mut taken = 0;
        let mut sound = true;
        if self.waiting.is_empty() && !self.connecting {
            match send(self.descriptor, pieces) {
                Ok(size) => taken = size,
                Err(error) => sound = error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        if !sound {
            return false;
        }
        for piece in pieces {
            let skip = taken.min(piece.len());
            taken -= skip;
            self.waiting.extend_from_slice(&piece[skip..]);
        }
        true
    }

    /// At an event for writing. False: the connection is broken.
    pub fn flush(&mut self) -> bool {
        if self.waiting.is_empty() {
            return true;
        }
        match send(self.descriptor, &[&self.waiting[self.sent..]]) {
            Ok(size) => {
                self.sent += size;
                if self.sent == self.waiting.len() {
                    self.waiting = Vec::new();
                    self.sent = 0;
                }
                true
            }
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }

    /// The peer does not take what it is sent.
    pub fn stalled(&self) -> bool {
        !self.waiting.is_empty() && !self.connecting
    }

    /// No more will be written.
    pub fn shut(&self) {
        // SAFETY: no pointers are passed.
        unsafe { libc::shutdown(self.descriptor, libc::SHUT_WR) };
    }

    /// Whether there is something that was not read.
    pub fn unread(&self) -> bool {
        let mut size: libc::c_int = 0;
        // SAFETY: the value outlives the call.
        let result = unsafe { libc::ioctl(self.descriptor, libc::FIONREAD, &raw mut size) };
        result == 0 && size > 0
    }

    /// How many bytes the peer's kernel acknowledged, where ours tells (`tcpi_bytes_acked`, Linux 4.1).
    pub fn acknowledged(&self) -> Option<u64> {
        const AT: usize = 120;
        let mut info = [0_u8; AT + 8];
        let mut size = info.len() as libc::socklen_t;
        // SAFETY: the buffer is as long as is said.
        let result = unsafe {
            libc::getsockopt(self.descriptor, libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &mut size)
        };
        if result != 0 || (size as usize) < info.len() {
            return None;
        }
        info[AT..].try_into().ok().map(u64::from_ne_bytes)
    }
}

/// One system call; what is not taken is the caller's.
fn send(descriptor: i32, pieces: &[&[u8]]) -> io::Result<usize> {
    const MOST: usize = 8;
    let mut parts = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; MOST];
    let count = pieces.len().min(MOST);
    for (part, piece) in parts.iter_mut().zip(pieces) {
        *part = libc::iovec { iov_base: piece.as_ptr().cast_mut().cast(), iov_len: piece.len() };
    }
    // SAFETY: an all-zero message is valid; the parts outlive the call, which only reads them.
    let size = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = parts.as_mut_ptr();
        message.msg_iovlen = count as _;
        libc::sendmsg(descriptor, &message, libc::MSG_NOSIGNAL)
    };
    usize::try_from(size).map_err(|_| io::Error::last_os_error())
}
