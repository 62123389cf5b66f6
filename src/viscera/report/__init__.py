"""What people read: organ statistics, run reports, pictures, charts."""
