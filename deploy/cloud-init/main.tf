# Terraform: any provider that takes user data. The two values below are all that differs between releases.
variable "acmed_url" {
  description = "Where the machine finds the package, an https URL"
  type        = string
}

variable "acmed_sha256" {
  description = "Its checksum, from SHA256SUMS"
  type        = string
}

locals {
  user_data = replace(replace(file("${path.module}/user-data.yaml"),
    "https://downloads.example.com/acmed_1.0.0_amd64.deb", var.acmed_url),
  "PUT-THE-SHA256-HERE", var.acmed_sha256)
}

output "user_data" {
  description = "For the user_data of a machine: aws_instance, hcloud_server, openstack_compute_instance_v2 and others"
  value       = local.user_data
}
