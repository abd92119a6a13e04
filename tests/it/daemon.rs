//! The daemon as its users meet it: the real binary, its files, its HTTP.

mod corpus;
mod external;
mod fsync;
mod kill;
mod mail;
mod process;
mod restored;
mod shop;
mod webhooks;
