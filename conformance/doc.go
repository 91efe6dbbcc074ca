// Package conformance lets OpenZiti's own Go libraries talk to Exuvia's controller and router.
//
// The tests start the program named in EXUVIA_BIN. They use the published modules channel, identity and sdk-golang as a stock peer does:
// what those libraries refuse is not OpenZiti's wire. `cargo xtask conformance` runs them; README.md says what is claimed.
package conformance
