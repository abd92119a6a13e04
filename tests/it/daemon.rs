//! The daemon as its users meet it: the real binary, its files, its HTTP.

mod corpus;
mod external;
mod kill;
mod mail;
mod process;
mod shop;
mod webhooks;
