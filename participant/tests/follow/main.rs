//! Following a whole ledger, told by a coordinator that is honest, breaks off, forgets, or lies.

mod lies;
mod restarts;
mod teller;
