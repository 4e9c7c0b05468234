"""The part of scipy that workers/ uses; the package itself carries no type information."""
