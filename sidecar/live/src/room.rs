//! Memory that this process and the scorer share: what is too large for the socket between them goes through it.
//!
//! A message is written here, the scorer is sent where it is, reads it and says so, and only then is its place free
//! again. A file for each message would cost both ten times as much, for pages that the kernel must find, clear and take
//! back. `room.py` makes the file and is the other side. It must not know what is in a message.

use std::collections::VecDeque;
use std::io;

/// The file's size: no message is larger. What is not written to takes no memory.
const SIZE: usize = 64 << 20;
/// Bytes that may wait for the scorer; beyond them messages are dropped. One alone may be larger.
const WAITING: usize = 8 << 20;
/// What is not given back to the system.
const KEPT: usize = 2 << 20;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Of the message: they are read in this order.
    pub number: u64,
    pub start: usize,
    pub size: usize,
}

pub struct Room {
    memory: *mut u8,
    waiting: VecDeque<Place>,
    number: u64,
    /// What was written to, and not given back.
    highest: usize,
}

impl Room {
    /// Of a file that was inherited.
    pub fn new(descriptor: i32) -> io::Result<Self> {
        // SAFETY: all-zero is a valid value, which outlives the call.
        let size = unsafe {
            let mut found: libc::stat = std::mem::zeroed();
            if libc::fstat(descriptor, &mut found) != 0 {
                return Err(io::Error::last_os_error());
            }
            found.st_size
        };
        if size < SIZE as libc::off_t {
            return Err(io::Error::other(
                "the file for large messages is shorter than agreed: both were not built together",
            ));
        }
        // SAFETY: the file is as long as is said (`room.py` made it), and mapped for as long as the process lives.
        let memory = unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(std::ptr::null_mut(), SIZE, access, libc::MAP_SHARED, descriptor, 0)
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { memory: memory.cast(), waiting: VecDeque::new(), number: 0, highest: 0 })
    }

    /// Where the message is now; None: there is no room.
    pub fn write(&mut self, message: &[u8]) -> Option<Place> {
        let waits: usize = self.waiting.iter().map(|place| place.size).sum();
        if waits > 0 && waits + message.len() > WAITING {
            return None;
        }
        let start = self.free(message.len())?;
        // SAFETY: the place ends within the memory, nobody else writes to it, and the scorer reads no place that it was
        // not told.
        unsafe { std::ptr::copy_nonoverlapping(message.as_ptr(), self.memory.add(start), message.len()) };
        self.number += 1;
        let place = Place { number: self.number, start, size: message.len() };
        self.waiting.push_back(place);
        self.highest = self.highest.max(start + message.len());
        Some(place)
    }

    /// The first place of so many bytes: what is written to again and again is little.
    fn free(&self, size: usize) -> Option<usize> {
        let mut taken: Vec<(usize, usize)> =
            self.waiting.iter().map(|place| (place.start, place.start + place.size)).collect();
        taken.sort_unstable();
        let mut from = 0;
        for (start, end) in taken {
            if from + size <= start {
                return Some(from);
            }
            from = end;
        }
        (from + size <= SIZE).then_some(from)
    }

    /// The last one written: it was not sent.
    pub fn forget(&mut self) {
        self.waiting.pop_back();
    }

    /// The scorer has read that one, and thus those before.
    pub fn read(&mut self, number: u64) {
        while self.waiting.front().is_some_and(|place| place.number <= number) {
            self.waiting.pop_front();
        }
        if self.highest > KEPT && self.waiting.iter().all(|place| place.start + place.size <= KEPT) {
            // SAFETY: the range is within the memory, and nothing that waits is in it.
            unsafe { libc::madvise(self.memory.add(KEPT).cast(), self.highest - KEPT, libc::MADV_REMOVE) };
            self.highest = KEPT;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room() -> (Room, i32) {
        // SAFETY: the name ends with a zero; the descriptor is the test's own.
        let file = unsafe {
            let file = libc::memfd_create(c"test".as_ptr(), libc::MFD_CLOEXEC);
            assert_eq!(libc::ftruncate(file, SIZE as libc::off_t), 0);
            file
        };
        (Room::new(file).expect("a mapping"), file)
    }

    /// Pages that the file takes, in bytes.
    fn taken(file: i32) -> usize {
        // SAFETY: all-zero is a valid value, which outlives the call.
        unsafe {
            let mut found: libc::stat = std::mem::zeroed();
            assert_eq!(libc::fstat(file, &mut found), 0);
            found.st_blocks as usize * 512
        }
    }

    fn at(room: &Room, place: Place) -> Vec<u8> {
        // SAFETY: the place is within the memory.
        unsafe { std::slice::from_raw_parts(room.memory.add(place.start), place.size) }.to_vec()
    }

    #[test]
    fn what_is_written_stays_until_it_was_read() {
        let (mut room, _) = room();
        let first = room.write(b"first").expect("room");
        let second = room.write(b"second").expect("room");
        assert_eq!((at(&room, first), at(&room, second)), (b"first".to_vec(), b"second".to_vec()));
        room.read(first.number);
        let third = room.write(b"abc").expect("room");
        assert_eq!(third.start, first.start);
        assert_eq!(at(&room, second), b"second");
    }

    #[test]
    fn there_is_no_more_room_than_is_shared() {
        let (mut room, _) = room();
        for _ in 0..4 {
            assert!(room.write(&[1; WAITING / 4]).is_some());
        }
        assert_eq!(room.write(b"x"), None);
        room.read(1);
        assert!(room.write(b"x").is_some());
    }

    #[test]
    fn one_alone_may_be_larger() {
        let (mut room, _) = room();
        assert!(room.write(&vec![1; SIZE]).is_some());
        assert_eq!(room.write(b"x"), None);
        room.read(1);
        assert_eq!(room.write(&vec![1; SIZE + 1]), None);
    }

    #[test]
    fn what_was_not_sent_takes_no_place() {
        let (mut room, _) = room();
        let first = room.write(b"lost").expect("room");
        room.forget();
        assert_eq!(room.write(b"next").map(|place| place.start), Some(first.start));
    }

    #[test]
    fn most_memory_is_given_back() {
        let (mut room, file) = room();
        room.write(&vec![1; 8 << 20]).expect("room");
        assert!(taken(file) >= 8 << 20);
        room.read(1);
        assert!(taken(file) <= KEPT);
    }
}
