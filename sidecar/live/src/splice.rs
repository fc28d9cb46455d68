use crate::poll::*;
use crate::resolve::*;
use crate::sock::Sock;
pub struct Splices {}
impl Splices {
    pub fn new(_: String, _: u16, _: f64) -> Self {
        Self {}
    }
    pub fn begin(&mut self, _: Sock, _: Vec<u8>, _: &mut Resolver, _: &Poll, _: f64) -> bool {
        false
    }
    pub fn resolved(&mut self, _: u64, _: &Addresses, _: &Poll, _: f64) {}
    pub fn event(&mut self, _: Key, _: u32, _: &Poll, _: f64, _: &mut [u8]) {}
    pub fn drain(&mut self, _: bool, _: &Poll) {}
    pub fn sweep(&mut self, _: f64, _: &Poll) {}
    pub fn sides(&self) -> usize {
        0
    }
}
