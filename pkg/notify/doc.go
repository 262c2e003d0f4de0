// Package notify tells people and programs what happened to a certificate.
//
// It owns the events and their stable JSON form, the contract of a [Notifier], the [Hub], and the ways in which messages
// leave: a URL of a chat or push service, a signed webhook, e-mail, and a program.
//
// It promises that a notifier can neither stop nor delay a renewal: [Hub.Notify] puts an event into a bounded queue in
// memory and returns, everything else happens behind it. The same failure of the same certificate is told once and again
// after a day; that something recovered hears who was told that it failed. What could not be delivered is tried again for
// a day, also after a restart, and then given up. No error contains a token, a password or the path of a URL.
//
// It decides nothing: which events happen is the engine's matter, who hears of them is the configuration's.
package notify
