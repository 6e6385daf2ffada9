// The loop of every Rust scenario program: `ask` and `quit` of harness.c, on the main thread alone.
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
