// Package installertest is the conformance suite of install plugins. Every plugin runs it:
//
//	func TestConformance(t *testing.T) { installertest.Run(t, newFixture) }
//
// It also makes the certificates that tests need ([Bundle], [Dual]), a directory with live paths like that of the store
// ([Live]), and a TLS server whose certificate a test can change ([Serve]); [SharedRoute] checks the routes for challenges.
package installertest
