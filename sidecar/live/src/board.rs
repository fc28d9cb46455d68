//! The memory that all processes of the sidecar share: what stage of leaving it is in, and each worker's figures.
//!
//! Cells of eight bytes, each written whole by one process alone, so that there are no locks. `board.py` is its other
//! side. It must not know what the figures mean.

use crate::figures::Figures;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

const FIRST_PLACE: usize = 64;
const PLACE: usize = 4096;

pub struct Board {
    cells: &'static [AtomicU64],
    place: usize,
}

impl Board {
    pub fn new(descriptor: i32, worker: usize) -> io::Result<Self> {
        let size = FIRST_PLACE + PLACE * (worker + 1);
        // SAFETY: the memory file is at least so long (`board.py` made it), mapped for as long as the process lives, and
        // used in cells that are written whole alone.
        let cells = unsafe {
            let memory = libc::mmap(
                std::ptr::null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                descriptor,
                0,
            );
            if memory == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            std::slice::from_raw_parts(memory.cast::<AtomicU64>(), size / 8)
        };
        Ok(Self { cells, place: (FIRST_PLACE + PLACE * worker) / 8 })
    }

    pub fn stage(&self) -> u64 {
        self.cells[0].load(Ordering::Acquire)
    }

    pub fn write(&self, figures: &Figures) {
        let mut at = self.place;
        let stage = at;
        figures.cells(|name, _, value| {
            if name != "stage" {
                self.cells[at].store(value.to_bits(), Ordering::Relaxed);
            }
            at += 1;
        });
        // The last: who reads it finds the others as they were when it was acted on, or newer.
        self.cells[stage].store((figures.stage as f64).to_bits(), Ordering::Release);
    }
}
