// Package imperva installs a certificate at a site of the Imperva (Incapsula) Cloud WAF, through version 1 of its
// provisioning API, and proves it at the site's public endpoint.
//
// The cloud takes minutes to bring an uploaded certificate to all its servers. Install uploads, waits some seconds, and
// then asks to be called again in a minute ([*installers.LaterError]) instead of keeping one of the few places for running
// jobs; what was uploaded and when is on disk, so nothing is uploaded twice meanwhile. Only when the certificate is still
// not served after verify_timeout is that an error, and the next try uploads again.
//
// What the API has accepted cannot be taken back: there is no uninstall, and a dual unit whose second half is refused has
// its first half live. What the API finds wrong with an accepted certificate stays an error until an upload without one.
package imperva
