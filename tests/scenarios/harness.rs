// The loop of every Rust scenario program: `ask` and `quit` of harness.c, on the main thread alone.

/// Makes the compiler forget what it knows about a value; `std::hint::black_box` is newer than Debian's compiler.
fn hide<T: Copy>(value: T) -> T {
    unsafe { std::ptr::read_volatile(&value) }
}

fn main() {
    use std::io::{BufRead, Write};
    setup();
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        match line.unwrap().as_str() {
            "ask" => println!("{}", answer()),
            "quit" => break,
            _ => println!("what?"),
        }
        std::io::stdout().flush().unwrap();
    }
    println!("bye");
}
