"""What an image is made of, and under which licences: found in its tree, written as CycloneDX and as SPDX."""
