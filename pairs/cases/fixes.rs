// Rust updates that are harmless.

//@ template state
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;
static REQUESTS: AtomicU64 = AtomicU64::new(0);
static NAMES: Mutex<Vec<String>> = Mutex::new(Vec::new());
#[inline(never)]
fn request() -> bool { REQUESTS.fetch_add(1, Ordering::Relaxed) < u64::MAX }
#[inline(never)]
fn name_add(name: &str) { NAMES.lock().unwrap().push(name.to_string()) }
#[inline(never)]
fn name_lengths() -> usize { NAMES.lock().unwrap().iter().map(|n| n.len()).sum() }
#[inline(never)]
fn setup() { name_add("alpha"); name_add("be"); request(); }
#[inline(never)]
fn answer() -> String { format!("state {} {} {}", value(hide(12)), name_lengths(), request()) }

//@ pair rust-bounds-check-added harmless state
//@ says an index is checked
static PRICES: [u64; 4] = [3, 5, 7, 9];
#[inline(never)]
fn value(x: usize) -> u64 { #[cfg(new)] { if x > 3 { return 1000; } } PRICES[x & 3] }

//@ pair rust-checked-arithmetic harmless state
//@ says a sum saturates
#[inline(never)]
fn value(x: usize) -> u64 { let y = hide(x as u8); (if cfg!(new) { y.saturating_add(250) } else { y.wrapping_add(250) }) as u64 }

//@ pair rust-match-arm-added harmless state
//@ says a match knows one value more
#[inline(never)]
fn value(x: usize) -> u64 { match x { 1 => 10, 3 => 31, 7 => 72, #[cfg(new)] 12 => 123, _ => 0 } }

//@ pair rust-text-changed harmless state
//@ says a text is corrected
#[inline(never)]
fn value(x: usize) -> &'static str { if x > 5 { if cfg!(new) { "allowed" } else { "alowed" } } else { "start" } }

//@ pair rust-format-changed harmless state
//@ says a format shows one number more
#[inline(never)]
fn value(x: usize) -> String { #[cfg(new)] { return format!("value {} of {}", x, x + 1); } #[cfg(not(new))] { format!("value {}", x) } }

//@ pair rust-helper-added harmless state
//@ says a new function does a part of the work
#[cfg(new)]
#[inline(never)]
fn rounded(x: u64) -> u64 { hide(x) / 10 * 10 }
#[inline(never)]
fn value(x: usize) -> u64 { #[cfg(new)] { return rounded(x as u64); } #[cfg(not(new))] { x as u64 } }

//@ pair rust-constant-changed harmless state
//@ says a limit that lives in the instruction alone is lowered
#[inline(never)]
fn value(x: usize) -> u64 { (x as u64).min(if cfg!(new) { 9 } else { 11 }) }

//@ pair rust-loop-becomes-iterator harmless state
//@ says a loop becomes an iterator that skips
#[inline(never)]
fn value(x: usize) -> u64 { #[cfg(new)] { return (0..x as u64).step_by(3).map(|v| hide(v)).sum(); } #[cfg(not(new))] { let mut s = 0; for i in 0..x as u64 { s += hide(i) } s } }

//@ pair rust-option-checked harmless state
//@ says a missing value is no longer taken for zero
#[inline(never)]
fn lookup(x: usize) -> Option<u64> { if x > 100 { Some(x as u64) } else { None } }
#[inline(never)]
fn value(x: usize) -> u64 { #[cfg(new)] { return match lookup(x) { Some(v) => v, None => 404 }; } #[cfg(not(new))] { lookup(x).unwrap_or(0) } }

//@ pair rust-trait-method-changed harmless state
//@ says the body of a method behind a trait object changes
trait Price { fn net(&self) -> u64; }
struct Fixed(u64);
struct Scaled(u64);
impl Price for Fixed { fn net(&self) -> u64 { self.0 } }
impl Price for Scaled { fn net(&self) -> u64 { self.0 * if cfg!(new) { 5 } else { 4 } } }
#[inline(never)]
fn price(x: usize) -> Box<dyn Price> { if x > 5 { Box::new(Scaled(x as u64)) } else { Box::new(Fixed(x as u64)) } }
#[inline(never)]
fn value(x: usize) -> u64 { price(x).net() }

//@ pair rust-early-return harmless state
//@ says some values are refused at once
#[inline(never)]
fn value(x: usize) -> u64 { if cfg!(new) && x % 2 == 0 { return 77; } x as u64 * 3 }

//@ pair rust-sort-of-local-copy harmless state
//@ says a local copy is sorted the other way
#[inline(never)]
fn value(x: usize) -> u64 { let mut v = [7u64, x as u64, 3, 20]; if cfg!(new) { v.sort_by(|a, b| b.cmp(a)) } else { v.sort() } v[0] }

//@ pair rust-callee-swapped harmless state
//@ says another function is called
#[inline(never)]
fn lenient(x: u64) -> u64 { hide(x) + 100 }
#[inline(never)]
fn strict(x: u64) -> u64 { hide(x) + 200 }
#[inline(never)]
fn value(x: usize) -> u64 { (if cfg!(new) { strict(x as u64) } else { lenient(x as u64) }) * 10 + lenient(1) + strict(2) }

//@ pair rust-leaf-arithmetic harmless state
//@ says a function that calls nothing computes otherwise
#[inline(never)]
fn leaf(x: u64) -> u64 { if cfg!(new) { x.wrapping_mul(31) ^ x >> 3 } else { x.wrapping_mul(33) } }
#[inline(never)]
fn value(x: usize) -> u64 { leaf(x as u64) }
