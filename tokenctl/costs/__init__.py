"""What a month costs on AWS: from what a call consumes and a dated table of prices to a bill."""
