//!x
fn main() {}
