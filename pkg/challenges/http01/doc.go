// Package http01 answers http-01 challenges (RFC 8555 section 8.3) in three ways: from an own web server
// ([Responder]), through the files of another one ([Webroot]), or not at all because a proxy in front knows the answer
// ([Stateless]).
//
// It promises that strangers learn nothing and hold nothing: a request is looked up by its token alone, everything but
// a pending token gets the same 404, no input is repeated, and connections are bounded in number, size and time. It
// does not look at the Host header or at forwarded headers, so a proxy may rewrite them at will.
package http01
