//! What is kept of one person: held by law, handed out, or erased.

pub mod elsewhere;
pub mod erasing;
pub mod holds;
pub mod whole;
