
use crate::capture::Captured; use crate::figures::*; use crate::poll::*; use crate::resolve::*; use std::collections::VecDeque;
pub enum Told { Answered(Box<Captured>), Shed(Drop) }
pub struct Found { pub host: String, pub port: u16, pub prefix: Vec<u8> }
pub fn candidate_of(_: &str) -> Option<Found> { None }
pub struct ShadowLimits {} impl ShadowLimits { pub fn new(_: f64, _: usize, _: usize) -> Self { Self {} } }
pub struct Shadow {}
impl Shadow {
 pub fn new(_: Found, _: ShadowLimits, _: f64) -> Self { Self {} }
 pub fn offer(&mut self, _: Box<Captured>, _: &mut Resolver, _: &Poll, _: f64, _: &mut VecDeque<Told>) {}
 pub fn event(&mut self, _: Key, _: u32, _: &mut Resolver, _: &Poll, _: f64, _: &mut [u8], _: &mut VecDeque<Told>) {}
 pub fn resolved(&mut self, _: u64, _: &Addresses, _: &mut Resolver, _: &Poll, _: f64, _: &mut VecDeque<Told>) {}
 pub fn sweep(&mut self, _: &mut Resolver, _: &Poll, _: f64, _: &mut VecDeque<Told>) {}
 pub fn stop(&mut self, _: &mut VecDeque<Told>) {}
 pub fn pending(&self) -> usize { 0 }
 pub fn full(&mut self, _: f64, _: f64) -> bool { false }
 pub fn next_due(&self, now: f64) -> f64 { now + 1.0 }
 pub fn figures(&mut self, _: f64) -> AskingFigures { todo!() }
}
