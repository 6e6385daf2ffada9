// Rust: types whose layout the compiler chooses, alive on the heap.

//@ template store
// A store of records, filled before the switch.
use std::cell::RefCell;
struct Store { records: Vec<Record>, served: u64 }
thread_local! { static STORE: RefCell<Store> = RefCell::new(Store { records: Vec::new(), served: 0 }); }
#[inline(never)]
fn record_add(record: Record) { STORE.with(|s| s.borrow_mut().records.push(record)) }
#[inline(never)]
fn record_count() -> usize { STORE.with(|s| s.borrow().records.len()) }
#[inline(never)]
fn serve() -> bool { STORE.with(|s| { let mut s = s.borrow_mut(); s.served += 1; s.served > 0 }) }
#[inline(never)]
fn record_sum() -> u64 { STORE.with(|s| s.borrow().records.iter().map(value).sum()) }
#[inline(never)]
fn record_best() -> u64 { STORE.with(|s| s.borrow().records.iter().map(value).max().unwrap_or(0)) }
#[inline(never)]
fn record_id(index: usize) -> u64 { STORE.with(|s| s.borrow().records.get(index).map_or(0, |r| r.id as u64)) }
#[inline(never)]
fn setup() { for i in 1..8 { record_add(make(i)); } }
#[inline(never)]
fn answer() -> String { format!("records {} {} {} {} {}", record_count(), record_sum(), record_best(), record_id(3), serve()) }

//@ pair rust-field-added dangerous store
//@ says a struct gets a field: elements of a vector made before lie closer together
struct Record { id: u32, amount: u64, #[cfg(new)] limit: u64 }
fn make(i: u64) -> Record { Record { id: i as u32, amount: i * 10, #[cfg(new)] limit: i + 5 } }
fn value(r: &Record) -> u64 { #[cfg(new)] { return r.amount + r.limit; } #[cfg(not(new))] { r.amount } }

//@ pair rust-field-widened dangerous store
//@ says a field becomes wider, and the compiler lays the struct out anew
struct Record { #[cfg(not(new))] id: u16, #[cfg(new)] id: u64, amount: u32, kind: u8 }
fn make(i: u64) -> Record { Record { id: i as _, amount: i as u32 * 10, kind: 3 } }
fn value(r: &Record) -> u64 { r.amount as u64 + r.kind as u64 }

//@ pair rust-fields-reordered dangerous store
//@ says two fields of a struct with the layout of C change places
#[repr(C)]
struct Record { #[cfg(not(new))] id: u64, amount: u64, #[cfg(new)] id: u64 }
fn make(i: u64) -> Record { Record { id: i, amount: i * 10 } }
fn value(r: &Record) -> u64 { r.amount }

//@ pair rust-enum-variant-grown dangerous store
//@ says one variant of an enum carries more: all values of the enum grow
enum Kind { Plain(u32), #[cfg(not(new))] Marked(u64), #[cfg(new)] Marked(u64, u64, u64) }
struct Record { id: u32, kind: Kind }
fn make(i: u64) -> Record {
    #[cfg(new)]
    let marked = Kind::Marked(i, i, 2);
    #[cfg(not(new))]
    let marked = Kind::Marked(i);
    Record { id: i as u32, kind: if i % 2 == 0 { Kind::Plain(i as u32) } else { marked } }
}
fn value(r: &Record) -> u64 {
    match &r.kind {
        Kind::Plain(p) => *p as u64,
        #[cfg(not(new))]
        Kind::Marked(m) => *m * 100,
        #[cfg(new)]
        Kind::Marked(m, n, o) => *m * 100 + *n + *o,
    }
}

//@ pair rust-enum-variant-inserted dangerous store
//@ says a variant in front renumbers the others
#[derive(Clone, Copy, PartialEq)]
enum State { #[cfg(new)] New, Open, Busy, Closed }
struct Record { id: u32, state: State }
fn make(i: u64) -> Record { Record { id: i as u32, state: match i % 3 { 0 => State::Open, 1 => State::Busy, _ => State::Closed } } }
fn value(r: &Record) -> u64 { match r.state { #[cfg(new)] State::New => 1000, State::Open => 1, State::Busy => 20, State::Closed => 300 } }

//@ pair rust-discriminants-swapped dangerous store
//@ says the numbers of two variants are exchanged
#[derive(Clone, Copy, PartialEq)]
#[repr(u8)]
enum State { #[cfg(not(new))] Open = 1, #[cfg(not(new))] Busy = 2, #[cfg(new)] Open = 2, #[cfg(new)] Busy = 1 }
struct Record { id: u32, state: State }
fn make(i: u64) -> Record { Record { id: i as u32, state: if i % 3 == 0 { State::Open } else { State::Busy } } }
fn value(r: &Record) -> u64 { if r.state == State::Open { 7 } else { 40 } }

//@ pair rust-option-loses-niche dangerous store
//@ says an optional reference becomes an optional number: no longer one word, but two
static NUMBERS: [u64; 3] = [10, 20, 30];
struct Record { id: u32, #[cfg(not(new))] extra: Option<&'static u64>, #[cfg(new)] extra: Option<u64> }
fn make(i: u64) -> Record {
    let chosen = NUMBERS.get(i as usize % 4);
    Record { id: i as u32, #[cfg(not(new))] extra: chosen, #[cfg(new)] extra: chosen.copied() }
}
fn value(r: &Record) -> u64 { #[cfg(not(new))] { r.extra.copied().unwrap_or(1) } #[cfg(new)] { r.extra.unwrap_or(1) } }

//@ pair rust-string-becomes-static dangerous store
//@ says an owned text becomes a borrowed one: three words become two
struct Record { id: u32, #[cfg(not(new))] name: String, #[cfg(new)] name: &'static str }
fn make(i: u64) -> Record { Record { id: i as u32, name: if i % 2 == 0 { "even".into() } else { "odd".into() } } }
fn value(r: &Record) -> u64 { r.name.len() as u64 }

//@ pair rust-array-length dangerous store
//@ says an array inside gets longer
const HISTORY: usize = if cfg!(new) { 6 } else { 4 };
struct Record { id: u32, history: [u32; HISTORY] }
fn make(i: u64) -> Record { Record { id: i as u32, history: [i as u32; HISTORY] } }
fn value(r: &Record) -> u64 { r.history.iter().take(4).map(|x| *x as u64).sum() }

//@ pair rust-tuple-widened dangerous store
//@ says a tuple inside gets a wider part
#[cfg(not(new))]
type Position = (u16, u16);
#[cfg(new)]
type Position = (u16, u32);
struct Record { id: u32, at: Position }
fn make(i: u64) -> Record { Record { id: i as u32, at: (i as _, (i * 3) as _) } }
fn value(r: &Record) -> u64 { r.at.0 as u64 * 100 + r.at.1 as u64 }

//@ pair rust-integer-becomes-float dangerous store
//@ says a number is a float of the same width now
struct Record { id: u32, #[cfg(not(new))] amount: u64, #[cfg(new)] amount: f64 }
fn make(i: u64) -> Record { Record { id: i as u32, amount: (i * 10) as _ } }
fn value(r: &Record) -> u64 { r.amount as u64 }

//@ pair rust-box-of-larger dangerous store
//@ says what a box holds grows: boxes made before are too short
struct Inner { amount: u64, #[cfg(new)] limit: u64 }
struct Record { id: u32, inner: Box<Inner> }
fn make(i: u64) -> Record { Record { id: i as u32, inner: Box::new(Inner { amount: i, #[cfg(new)] limit: 100 }) } }
fn value(r: &Record) -> u64 { #[cfg(new)] { return r.inner.amount + r.inner.limit; } #[cfg(not(new))] { r.inner.amount } }

//@ pair rust-trait-method-inserted dangerous store
//@ says a trait gets a method in front: tables of the trait objects made before are shorter
trait Price {
    #[cfg(new)]
    fn tax(&self) -> u64 { 3 }
    fn net(&self) -> u64;
    fn gross(&self) -> u64 { #[cfg(new)] { return self.net() + self.tax(); } #[cfg(not(new))] { self.net() } }
}
struct Fixed(u64);
struct Scaled(u64, u64);
impl Price for Fixed { fn net(&self) -> u64 { self.0 } }
impl Price for Scaled { fn net(&self) -> u64 { self.0 * self.1 } #[cfg(new)] fn tax(&self) -> u64 { 9 } }
struct Record { id: u32, price: Box<dyn Price> }
fn make(i: u64) -> Record { Record { id: i as u32, price: if i % 2 == 0 { Box::new(Fixed(i)) } else { Box::new(Scaled(i, 10)) } } }
fn value(r: &Record) -> u64 { r.price.gross() }

//@ pair rust-closure-captures-more dangerous store
//@ says a boxed closure captures one value more: those made before have none
struct Record { id: u32, rule: Box<dyn Fn(u64) -> u64> }
fn make(i: u64) -> Record {
    let factor = hide(i);
    let bonus = hide(i + 100);
    let _ = bonus;
    #[cfg(new)]
    let rule = move |x| x * factor + bonus;
    #[cfg(not(new))]
    let rule = move |x| x * factor;
    Record { id: i as u32, rule: Box::new(rule) }
}
fn value(r: &Record) -> u64 { (r.rule)(10) }

//@ pair rust-state-number dangerous store
//@ says a state is kept as a number, and the numbers change
#[cfg(not(new))]
const READY: u32 = 17;
#[cfg(new)]
const READY: u32 = 23;
struct Record { id: u32, state: u32 }
fn make(i: u64) -> Record { Record { id: i as u32, state: if i % 2 == 0 { READY } else { READY + 1 } } }
fn value(r: &Record) -> u64 { if r.state == READY { 7 } else { 50 } }

//@ template plain
use std::sync::atomic::{AtomicU64, Ordering};
static REQUESTS: AtomicU64 = AtomicU64::new(0);
#[inline(never)]
fn request() -> bool { REQUESTS.fetch_add(1, Ordering::Relaxed) < u64::MAX }
#[inline(never)]
fn answer() -> String { format!("plain {} {}", value(), request()) }

//@ pair rust-static-initial-value dangerous plain
//@ says an atomic starts with another value: the process has its own
static LIMIT: AtomicU64 = AtomicU64::new(if cfg!(new) { 30 } else { 20 });
#[inline(never)]
fn limit_set(to: u64) { if to > 0 { LIMIT.store(to, Ordering::Relaxed) } }
#[inline(never)]
fn value() -> u64 { limit_set(hide(0)); LIMIT.load(Ordering::Relaxed) * 2 }
#[inline(never)]
fn setup() { limit_set(hide(0)) }

//@ pair rust-static-array-grown dangerous plain
//@ says a static array of atomics gets longer: the old one has no room
const SLOTS: usize = if cfg!(new) { 64 } else { 8 };
#[allow(clippy::declare_interior_mutable_const)]
const ZERO: AtomicU64 = AtomicU64::new(0);
static SLOT: [AtomicU64; SLOTS] = [ZERO; SLOTS];
static FENCE: [AtomicU64; 16] = [ZERO; 16];
#[inline(never)]
fn slot_fill(value: u64) { for slot in &SLOT { slot.store(value, Ordering::Relaxed) } }
#[inline(never)]
fn fence_set(value: u64) { for fence in &FENCE { fence.store(value, Ordering::Relaxed) } }
#[inline(never)]
fn fence_sum() -> u64 { FENCE.iter().map(|f| f.load(Ordering::Relaxed)).sum() }
#[inline(never)]
fn slot_at(i: usize) -> u64 { SLOT[i].load(Ordering::Relaxed) }
fn value() -> u64 { slot_fill(5); fence_sum() * 10 + slot_at(3) }
#[inline(never)]
fn setup() { fence_set(1) }

//@ pair rust-thread-local-added dangerous plain
//@ says a thread-local variable is added: running threads have no room for it
use std::cell::Cell;
thread_local! { static MARK: Cell<u64> = const { Cell::new(3) }; }
#[cfg(new)]
thread_local! { static ERRORS: Cell<[u64; 64]> = const { Cell::new([4; 64]) }; }
#[inline(never)]
fn mark() -> u64 { MARK.with(|m| { m.set(m.get()); m.get() }) }
#[inline(never)]
fn value() -> u64 { #[cfg(new)] { return mark() + ERRORS.with(|e| { let mut a = e.get(); a[3] = hide(4); e.set(a); a[3] }); } #[cfg(not(new))] { mark() } }
#[inline(never)]
fn setup() {}

//@ pair rust-table-made-at-start dangerous plain
//@ says a table that start-up code fills has another formula
use std::sync::Mutex;
static TABLE: Mutex<Vec<u64>> = Mutex::new(Vec::new());
#[inline(never)]
fn table_make() {
    let factor = if cfg!(new) { 3 } else { 2 };
    let mut table = TABLE.lock().unwrap();
    for i in 0..16u64 { table.push(hide(i) * factor) }
}
#[inline(never)]
fn value() -> u64 { TABLE.lock().unwrap()[5] }
#[inline(never)]
fn setup() { table_make() }
