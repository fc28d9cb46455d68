//! The live process's end of the socket to the scorer. Nothing here waits: what cannot be sent at once is counted as lost.
//!
//! A message for each request would cost more than all else about mirroring: the scorer is woken, and finds nothing of
//! its own in the processor's caches. So what has both answers waits for others until it is `due`. What the scorer must
//! still ask the candidate for waits until the loop's turn ends, because it must not be asked in bursts that the
//! baseline did not see. `channel.py` is the other end. It must not know HTTP, nor what is done with a captured request.

use crate::capture::Captured;
use crate::orders::{Dropped, News};
use std::io;

/// Larger messages go through a memory file: a socket's buffer holds 208 KiB by default, and one message must not take
/// the room of many.
const LARGE: usize = 48 << 10;
/// What waits to go as one message: a scorer that is woken for many pairs at a time takes half as long for each.
const TOGETHER: usize = 256 << 10;
/// Bytes in memory files that the scorer has not taken yet; beyond them large messages are dropped.
const LARGE_WAITING: usize = 16 << 20;
/// Seconds that a pair may wait for others.
const HAND_OVER: f64 = 0.1;

const CAPTURED: u8 = b'C';
const IN_FILE: u8 = b'F';
const DROPPED: u8 = b'D';
const NEWS: u8 = b'N';
const TAKEN: u8 = b'T';
const HELLO: u8 = b'H';

pub struct Channel {
    pub descriptor: i32,
    /// The kind, and what waits behind it.
    message: Vec<u8>,
    waiting: u64,
    /// When what waits is to be sent.
    pub due: Option<f64>,
    large_waiting: usize,
}

/// What was received.
pub enum Heard {
    News(News),
    /// What cannot be read is left aside.
    Unreadable(String),
    Nothing,
}

impl Channel {
    pub fn new(descriptor: i32) -> Self {
        Self { descriptor, message: vec![CAPTURED], waiting: 0, due: None, large_waiting: 0 }
    }

    /// Take a captured request. How many that were taken before, or this one, found no room after all.
    pub fn offer(&mut self, captured: &Captured, now: f64) -> u64 {
        let size = captured.size();
        let mut lost = 0;
        if self.message.len() + size > TOGETHER {
            lost += self.flush();
        }
        captured.pack(&mut self.message);
        self.waiting += 1;
        let due = if captured.candidate.is_some() { now + HAND_OVER } else { now };
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
        if self.message.len() > TOGETHER {
            lost += self.flush();
        }
        lost
    }

    /// Send what waits. How many found no room.
    pub fn flush(&mut self) -> u64 {
        self.due = None;
        let waiting = std::mem::take(&mut self.waiting);
        if waiting == 0 {
            return 0;
        }
        let sent = if self.message.len() > LARGE { self.send_in_file() } else { self.send(&self.message) };
        if self.message.capacity() > 2 * TOGETHER {
            self.message = vec![CAPTURED];
        } else {
            self.message.truncate(1);
        }
        if sent {
            0
        } else {
            waiting
        }
    }

    pub fn report_dropped(&self, dropped: &Dropped) -> bool {
        let mut message = vec![DROPPED];
        rmp_serde::encode::write_named(&mut message, dropped).is_ok() && self.send(&message)
    }

    /// False: no room, or no scorer; either way it is not mirrored.
    fn send(&self, message: &[u8]) -> bool {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the buffer is as long as is said.
        unsafe { libc::send(self.descriptor, message.as_ptr().cast(), message.len(), flags) >= 0 }
    }

    fn send_in_file(&mut self) -> bool {
        let captured = &self.message[1..];
        if self.large_waiting + captured.len() > LARGE_WAITING {
            return false;
        }
        // SAFETY: the name ends with a zero; the buffer is as long as is said; the descriptor is ours until it is closed.
        let sent = unsafe {
            let file = libc::memfd_create(c"captured".as_ptr(), libc::MFD_CLOEXEC);
            if file < 0 {
                return false;
            }
            let written = libc::write(file, captured.as_ptr().cast(), captured.len());
            let sent = written == captured.len() as isize && send_descriptor(self.descriptor, IN_FILE, file);
            libc::close(file);
            sent
        };
        if sent {
            self.large_waiting += captured.len();
        }
        sent
    }

    /// The next news. Call it until there is nothing.
    pub fn receive(&mut self) -> Heard {
        let mut room = vec![0_u8; 1 << 20]; // the kernel gives what of it is written to, and has it back at once
        loop {
            // SAFETY: the buffer is as long as is said.
            let size = unsafe { libc::recv(self.descriptor, room.as_mut_ptr().cast(), room.len(), libc::MSG_DONTWAIT) };
            let message = match usize::try_from(size) {
                Ok(size) if size > 0 => &room[..size],
                Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => continue,
                _ => return Heard::Nothing,
            };
            match message[0] {
                NEWS => {
                    return match News::read(&message[1..]) {
                        Ok(news) => Heard::News(news),
                        Err(error) => Heard::Unreadable(format!("news cannot be read: {error}")),
                    };
                }
                TAKEN => {
                    let taken = std::str::from_utf8(&message[1..]).ok().and_then(|text| text.parse().ok());
                    self.large_waiting = self.large_waiting.saturating_sub(taken.unwrap_or(0));
                }
                HELLO => self.large_waiting = 0, // what the scorer before this one had taken is gone with it
                kind => return Heard::Unreadable(format!("unknown kind of message {kind}")),
            }
        }
    }
}

/// One byte and a descriptor. The caller sees to it that both descriptors are open.
unsafe fn send_descriptor(socket: i32, kind: u8, file: i32) -> bool {
    let mut part = libc::iovec { iov_base: (&raw const kind).cast_mut().cast(), iov_len: 1 };
    let mut control = [0_u64; 4]; // aligned as a cmsghdr has to be
                                  // SAFETY: all-zero is a valid message; the header and the descriptor fit in `control`, which outlives the call.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(size_of::<i32>() as u32) as _;
        let header = libc::CMSG_FIRSTHDR(&message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<i32>() as u32) as _;
        std::ptr::copy_nonoverlapping((&raw const file).cast::<u8>(), libc::CMSG_DATA(header), size_of::<i32>());
        libc::sendmsg(socket, &message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) >= 0
    }
}
