// Package webserver is what the plugins for web servers have in common: the settings, the server with its test and
// reload, the choice of a site for every name, and the way of an installation from reading the configuration to the proof.
//
// A plugin brings the rest as an [Editor]: how the configuration is read, which bytes of it change, where the result is
// served, and how its own lines are taken out again.
package webserver
